(function (root) {
  "use strict";
  const LONGEST = 480; // pixels of a canvas
  const BRIGHTNESS = 0.55; // how much of the photo shows under a map, as in attribution_grid
  const PALE = 0.3; // how much of it where the model did not look
  // Of a patch the neighbour below, above, right, left, and the side between them: x, y, x, y.
  const SIDES = [[1, 0, 0, 1, 1, 1], [-1, 0, 0, 0, 1, 0], [0, 1, 1, 0, 1, 1], [0, -1, 0, 0, 0, 1]];
  const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const find = (name) => root.querySelector(".cci-" + name);
  const stops = data.stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  const scratch = document.createElement("canvas");
  const maps = [...root.querySelectorAll(".cci-row")].flatMap((row, index) =>
    [...row.querySelectorAll(".cci-map")].map((cell, column) => ({
      // Size of the photo; box of the map and frame of both: left, top, width, height. Of clusters,
      // the one of each patch, and their numbers.
      ...data.rows[index],
      index,
      values: data.rows[index].maps[column],
      photo: row.querySelector(".cci-photo"),
      canvas: cell.querySelector("canvas"),
      cursor: cell.querySelector(".cci-cursor"),
      readout: cell.querySelector(".cci-value"),
      first: !column,
      at: null, // row and column of the cursor
    })),
  );
  for (const map of maps) {
    map.height = map.values.length;
    map.width = map.values[0].length;
    map.largest = map.values.flat().reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  }
  const largest = maps.reduce((most, map) => Math.max(most, map.largest), 0);
  const isShared = () => root.querySelector("select").value === "shared";
  const inRow = (map) => maps.filter((other) => other.index === map.index);

  function written(value) {
    const sign = value > 0 ? "+" : value < 0 ? "\u2212" : "";
    return sign + String(Math.abs(value)).replace("e-", "e\u2212") + (data.unit && " " + data.unit);
  }

  // The value of a patch, and of which cluster it is.
  function said(map, row, column) {
    const cluster = map.labels ? `cluster ${map.clusters[map.labels[row][column]]}: ` : "";
    return cluster + written(map.values[row][column]);
  }

  function colour(share) {
    const place = ((share + 1) / 2) * (stops.length - 1);
    const first = Math.min(Math.floor(place), stops.length - 2);
    return stops[first].map((from, c) => Math.round(from + (place - first) * (stops[first + 1][c] - from)));
  }

  // A map in its colours, one pixel a patch.
  function painted(map, full) {
    const canvas = document.createElement("canvas");
    canvas.width = map.width;
    canvas.height = map.height;
    const pixels = new ImageData(map.width, map.height);
    map.values.flat().forEach((value, at) => pixels.data.set([...colour(value / full), 255], 4 * at));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  // The context of an empty canvas, measured in pixels of the photo.
  function blank(canvas, [left, top, width, height]) {
    const scale = LONGEST / Math.max(width, height);
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    const context = canvas.getContext("2d");
    context.scale(canvas.width / width, canvas.height / height);
    context.translate(-left, -top);
    return context;
  }

  // Lines around all clusters or one, so many pixels wide, but no wider than patches are for it.
  function surround(map, context, chosen, width, stroke) {
    const pixel = Math.max(map.width, map.height) / LONGEST; // in patches
    context.beginPath();
    map.labels.forEach((line, r) =>
      line.forEach((label, c) => {
        if (chosen !== undefined && label !== chosen) return;
        for (const [down, right, ...ends] of SIDES) {
          if ((map.labels[r + down] || [])[c + right] === label) continue;
          context.moveTo(c + ends[0], r + ends[1]);
          context.lineTo(c + ends[2], r + ends[3]);
        }
      }),
    );
    context.lineCap = "square";
    context.lineWidth = width * Math.min(pixel, 0.025);
    context.strokeStyle = stroke;
    context.stroke();
  }

  function drawClusters(map, full) {
    const context = blank(map.canvas, map.frame);
    context.imageSmoothingEnabled = false;
    context.drawImage(painted(map, full), ...map.box);
    surround(map, context, undefined, 3, "#222");
    if (map.marked === undefined) return;
    surround(map, context, map.marked, 14, "#fff");
    surround(map, context, map.marked, 7, "#222");
  }

  function mark(map, label) {
    if (!map.labels || map.marked === label) return;
    map.marked = label;
    draw(map);
  }

  function draw(map) {
    const full = (isShared() ? largest : map.largest) || 1;
    if (map.labels) return drawClusters(map, full);
    const photo = [map.photo, 0, 0, ...map.size];

    const over = blank(scratch, map.frame); // colours times the brightness of the photo
    over.fillStyle = "#fff";
    over.fillRect(...map.box);
    over.globalAlpha = BRIGHTNESS;
    over.drawImage(...photo);
    over.globalAlpha = 1;
    over.globalCompositeOperation = "saturation";
    over.fillRect(...map.box);
    over.globalCompositeOperation = "multiply";
    over.imageSmoothingEnabled = false;
    over.drawImage(painted(map, full), ...map.box);

    const context = blank(map.canvas, map.frame);
    context.globalAlpha = PALE;
    context.drawImage(...photo);
    context.beginPath();
    context.rect(...map.box);
    context.clip();
    context.clearRect(...map.box);
    context.globalAlpha = 1;
    context.drawImage(...photo);
    context.globalAlpha = root.querySelector("input").value / 100;
    context.drawImage(scratch, ...map.frame);
  }

  function drawAll() {
    find("low").textContent = "opposes" + (isShared() ? " " + written(-largest) : "");
    find("high").textContent = isShared()
      ? written(largest) + " supports"
      : "supports (full at each map's strongest patch)";
    maps.filter((map) => map.photo.complete).forEach(draw);
  }

  // Lay an element over some rectangle of the photo.
  function lay(element, map, left, top, width, height) {
    const [x, y, across, down] = map.frame;
    const shares = { left: (left - x) / across, top: (top - y) / down, width: width / across, height: height / down };
    for (const [side, share] of Object.entries(shares)) element.style[side] = 100 * share + "%";
    element.hidden = false;
  }

  // Put the cursor on a patch, and in the image's other maps on the same place.
  function point(map, row, column) {
    for (const other of inRow(map)) {
      const [left, top, width, height] = other.box;
      const [across, down] = [width / other.width, height / other.height];
      const r = Math.floor(((row + 0.5) / map.height) * other.height);
      const c = Math.floor(((column + 0.5) / map.width) * other.width);
      other.at = [r, c];
      other.readout.textContent = said(other, r, c);
      mark(other, other.labels && other.labels[r][c]);
      lay(other.cursor, other, left + c * across, top + r * down, across, down);
    }
    const place = `row ${row + 1} of ${map.height}, column ${column + 1} of ${map.width}`;
    find("live").textContent = `${place}: ${said(map, row, column)}`;
  }

  function leave(map) {
    for (const other of inRow(map)) {
      other.at = null;
      other.cursor.hidden = true;
      other.readout.textContent = "";
      mark(other, undefined);
    }
    find("live").textContent = "";
  }

  function hover(map, event) {
    const area = event.currentTarget.getBoundingClientRect();
    const x = map.frame[0] + ((event.clientX - area.left) / area.width) * map.frame[2];
    const y = map.frame[1] + ((event.clientY - area.top) / area.height) * map.frame[3];
    const column = Math.floor(((x - map.box[0]) / map.box[2]) * map.width);
    const row = Math.floor(((y - map.box[1]) / map.box[3]) * map.height);
    if (map.values[row] && column in map.values[row]) return point(map, row, column);
    leave(map);
    map.readout.textContent = find("live").textContent = "not seen by the model";
  }

  // Where the cursor is, or else at the patch of the largest absolute value.
  function enter(map) {
    const first = map.values.flat().findIndex((value) => Math.abs(value) === map.largest);
    point(map, ...(map.at || [Math.floor(first / map.width), first % map.width]));
  }

  function press(map, event) {
    if (!(event.key in STEPS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (!map.at) return enter(map);
    const [row, column] = map.at.map((at, axis) => at + STEPS[event.key][axis]);
    if (map.values[row] && column in map.values[row]) point(map, row, column);
  }

  for (const map of maps) {
    for (const element of map.labels && map.first ? [map.canvas, map.photo] : [map.canvas]) {
      element.addEventListener("pointermove", (event) => hover(map, event));
      element.addEventListener("pointerdown", (event) => hover(map, event));
      element.addEventListener("pointerleave", (event) => {
        const busy = inRow(map).some((other) => other.canvas === document.activeElement);
        if (event.pointerType === "mouse" && !busy) leave(map);
      });
    }
    map.canvas.addEventListener("keydown", (event) => press(map, event));
    map.canvas.addEventListener("focus", () => enter(map));
    map.canvas.addEventListener("blur", (event) => {
      if (!inRow(map).some((other) => other.canvas === event.relatedTarget)) leave(map);
    });
    lay(map.canvas.parentElement.querySelector(".cci-box"), map, ...map.box);
    if (!map.photo.complete) map.photo.addEventListener("load", () => draw(map));
  }
  root.querySelectorAll("input, select").forEach((input) => input.addEventListener("input", drawAll));
  root.classList.add("cci-on");
  find("off").hidden = true;
  find("controls").hidden = false;
  drawAll();
})
