function (root) {
  "use strict";
  if (!root) return;
  const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const stops = data.stops.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const control = (name) => root.querySelector('[data-cci="' + name + '"]');
  const said = root.querySelector(".cci-value");
  const bar = root.querySelector(".cci-bar");
  bar.style.background = "linear-gradient(to right, " + data.stops.join(", ") + ")";

  // The colour of a value from -1 to 1, between the two stops beside it.
  function colour(value) {
    const place = ((Math.max(-1, Math.min(1, value)) + 1) / 2) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    const mix = stops[low].map((c, i) => Math.round(c + (stops[low + 1][i] - c) * (place - low)));
    return "rgb(" + mix.join(",") + ")";
  }

  const largest = (map) => Math.max(...map.map((row) => Math.max(...row.map(Math.abs))));

  const cells = [];
  root.querySelectorAll(".cci-row").forEach((element, index) => {
    const row = data.rows[index];
    const source = element.querySelector("img").src;
    const whole = Math.max(...row.maps.map(largest));
    element.querySelectorAll(".cci-map").forEach((cell, column) => {
      cell.querySelector("img").src = source;
      const at = document.createElement("span");
      at.className = "cci-at";
      at.hidden = true;
      cell.append(at);
      const map = row.maps[column];
      const name = cell.parentElement.querySelector("strong").textContent;
      cells.push({ cell, at, map, name, box: row.box, own: largest(map), whole, place: null });
    });
  });

  // Edges of a patch as shares of the image: left, top, width, height.
  function patch(item, row, column) {
    const [left, top, right, bottom] = item.box;
    const height = (bottom - top) / item.map.length;
    const width = (right - left) / item.map[0].length;
    return [left + column * width, top + row * height, width, height];
  }

  function draw(item) {
    const canvas = item.cell.querySelector("canvas");
    const bounds = item.cell.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(bounds.width * ratio));
    canvas.height = Math.max(1, Math.round(bounds.height * ratio));
    const context = canvas.getContext("2d");
    context.globalAlpha = control("strength").value / 100;
    const full = (control("scale").value === "per-row" ? item.whole : item.own) || 1;
    item.map.forEach((values, row) =>
      values.forEach((value, column) => {
        const [left, top, width, height] = patch(item, row, column);
        // Whole pixels, so that no line shows between neighbours.
        const x = Math.round(left * canvas.width);
        const y = Math.round(top * canvas.height);
        const right = Math.round((left + width) * canvas.width);
        const bottom = Math.round((top + height) * canvas.height);
        context.fillStyle = colour(value / full);
        context.fillRect(x, y, right - x, bottom - y);
      })
    );
  }

  function tell(item, row, column) {
    item.place = [row, column];
    const [left, top, width, height] = patch(item, row, column);
    Object.assign(item.at.style, {
      left: 100 * left + "%", top: 100 * top + "%", width: 100 * width + "%", height: 100 * height + "%",
    });
    item.at.hidden = false;
    const value = item.map[row][column];
    const unit = data.unit ? " " + data.unit : "";
    said.textContent =
      item.name + ": " + value + unit + " (row " + (row + 1) + ", column " + (column + 1) + ")";
  }

  function leave(item) {
    item.at.hidden = true;
    said.textContent = "\u00a0";
  }

  cells.forEach((item) => {
    item.cell.addEventListener("pointermove", (event) => {
      const bounds = item.cell.getBoundingClientRect();
      const [left, top, right, bottom] = item.box;
      const x = ((event.clientX - bounds.left) / bounds.width - left) / (right - left);
      const y = ((event.clientY - bounds.top) / bounds.height - top) / (bottom - top);
      if (x < 0 || x >= 1 || y < 0 || y >= 1) leave(item);
      else tell(item, Math.floor(y * item.map.length), Math.floor(x * item.map[0].length));
    });
    item.cell.addEventListener("pointerleave", () => leave(item));
    item.cell.addEventListener("blur", () => leave(item));
    item.cell.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const last = [item.map.length - 1, item.map[0].length - 1];
      const from = item.place || [0, 0];
      const to = item.place ? from.map((at, axis) => Math.max(0, Math.min(last[axis], at + step[axis]))) : from;
      tell(item, to[0], to[1]);
    });
  });
  const all = () => cells.forEach(draw);
  control("strength").addEventListener("input", all);
  control("scale").addEventListener("change", all);
  if (window.ResizeObserver) new ResizeObserver(all).observe(root);
  all();
}
