// Where things lie: margins, ranges and labels, the same for the lines and for the layers below them.
"use strict";

const conflictAxes = (() => {
  const RIGHT = 14;
  const ROW = { least: 5, most: 24 };
  const BODY = { least: 96, most: 560 };
  const FONT = 11;
  const pen = document.createElement("canvas").getContext("2d");

  // A text that is no wider than some pixels: its end tells modules apart, its beginning where they are.
  function shortened(text, width) {
    pen.font = `${FONT}px ${page.theme().font}`;
    if (pen.measureText(text).width <= width) return text;
    const letters = [...text];
    let kept = letters.length - 1;
    const cut = () => `${letters.slice(0, Math.floor(kept / 3)).join("")}…${letters.slice(letters.length - Math.ceil((2 * kept) / 3)).join("")}`;
    while (kept > 2 && pen.measureText(cut()).width > width) kept--;
    return cut();
  }

  // Names without what all of them begin and end with, where they are wider than some pixels.
  function distinct(names, width) {
    if (names.length < 2 || widest(names) <= width) return names;
    const every = (at) => names.every((name) => at(name) === at(names[0]));
    const least = Math.min(...names.map((name) => name.length)) - 1;
    let [start, end] = [0, 0];
    while (start < least && every((name) => name[start])) start++;
    while (end < least - start && every((name) => name[name.length - 1 - end])) end++;
    start = names[0].lastIndexOf(".", start - 1) + 1;
    const [head, tail] = [start > 1 ? "…" : "", end > 1 ? "…" : ""];
    return names.map((name) => head + name.slice(head ? start : 0, name.length - (tail ? end : 0)) + tail);
  }

  function widest(texts) {
    pen.font = `${FONT}px ${page.theme().font}`;
    return Math.max(0, ...texts.map((text) => pen.measureText(text).width));
  }

  // The steps of every series, ascending, and the range that holds their cells whole.
  function across(series) {
    const steps = [...new Set(series.flatMap(({ steps: own }) => [...own]))].sort((a, b) => a - b);
    const pads = series.map(({ steps: own }) => (own.length > 1 ? Math.max(own[1] - own[0], own.at(-1) - own.at(-2)) / 2 : 0.5));
    const pad = Math.max(0.5, ...pads);
    const range = steps.length ? [steps[0] - pad, steps.at(-1) + pad] : [-0.5, 0.5];
    return { steps, range, ticks: range[1] - range[0] < 8 ? { tick0: 0, dtick: 1 } : {} };  // there is no half a step
  }

  // Where the cells of steps end: halfway to their neighbours.
  function edges(steps) {
    if (steps.length === 1) return [steps[0] - 0.5, steps[0] + 0.5];
    const inner = Array.from(steps.slice(1), (step, i) => (step + steps[i]) / 2);
    const last = steps.length - 1;
    return steps.length ? [1.5 * steps[0] - 0.5 * steps[1], ...inner, 1.5 * steps[last] - 0.5 * steps[last - 1]] : [];
  }

  // A line through every run of cells without a value, {x, y} with gaps between the runs.
  function struck(rows, ends) {
    const [x, y] = [[], []];
    rows.forEach((row, l) => {
      for (let i = 0; i < row.length; i++) {
        if (!Number.isNaN(row[i])) continue;
        const from = i;
        while (i + 1 < row.length && Number.isNaN(row[i + 1])) i++;
        x.push(ends[from], ends[i + 1], null);
        y.push(l, l, null);
      }
    });
    return { x, y };
  }

  // A range for cosines that shows their sign: 0 is in it.
  function upwards(rows) {
    let [low, high] = [0, 0];
    for (const row of rows) for (const value of row) { if (value < low) low = value; if (value > high) high = value; }
    const pad = 0.06 * (high - low) || 0.1;
    return [Math.max(-1.04, low - pad), Math.min(1.04, high + pad)];
  }

  // Sizes in pixels for a page of some width.
  function sizes(width, layers) {
    const left = Math.min(Math.max(58, 14 + widest(layers)), Math.max(96, 0.24 * width));
    const row = Math.max(ROW.least, Math.min(ROW.most, BODY.most / layers.length));
    const body = Math.max(BODY.least, Math.min(row * layers.length, BODY.most));
    return {
      width,
      lines: { left, right: RIGHT, top: 12, bottom: 42, height: width < 600 ? 220 : 280 },
      layers: { left, right: RIGHT, top: 8, bottom: 42, height: body },
    };
  }

  // Layers whose names are written: all, or every so many where they would overlap.
  function written(layers, { left, height }) {
    const every = Math.ceil((13 * layers.length) / height);
    const places = layers.map((_, l) => l).filter((l) => l % every === 0);
    const names = distinct(layers, left - 12);
    return { tickvals: places, ticktext: places.map((l) => page.plain(shortened(names[l], left - 12))) };
  }

  return { across, edges, struck, upwards, sizes, written };
})();
