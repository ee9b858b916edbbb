"""What runs cost: timings, as ratios within one run, and counts. Timings are never tested."""
