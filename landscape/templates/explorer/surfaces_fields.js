// The measured fields: decoded when first needed, chosen by epoch and split, and two terms added up.
"use strict";

const fields = (() => {
  const { methods, total } = page.data;
  const PENDING = 0;
  const decoded = new WeakMap();

  function array(packed) {
    if (!decoded.has(packed)) decoded.set(packed, page.unpacked(packed).values);
    return decoded.get(packed);
  }

  // Coordinates of a surface; `rows` counts those of a plane along y, or the lines of a bundle.
  function grid(surface) {
    const x = array(surface.x);
    const rows = surface.status.shape.length === 1 ? 1 : surface.status.shape[0];
    return { x, y: surface.y && array(surface.y), columns: x.length, rows, status: array(surface.status) };
  }

  const isTotal = (term) => total !== null && term === total.name;
  const has = (surface, term) => (isTotal(term) ? [total.task, total.distillation] : [term]).every((of) => of in surface.values);

  // Value and 95 % half width of every cell, as measured. Those of a sum are its parts': no error is larger than that.
  function field(surface, { term, alpha }) {
    if (!isTotal(term)) return { values: array(surface.values[term]), half: array(surface.half[term]) };
    return { values: mixed(surface.values, alpha), half: mixed(surface.half, alpha) };
  }

  const sums = new WeakMap();
  function mixed(of, alpha) {
    const kept = sums.get(of);
    if (kept?.alpha === alpha) return kept.values;
    const task = array(of[total.task]), distillation = array(of[total.distillation]);
    const values = task.map((value, i) => mix(value, distillation[i], alpha));
    sums.set(of, { alpha, values });
    return values;
  }

  // A part with weight 0 counts for nothing, even where it is not finite.
  function mix(task, distillation, alpha) {
    return (alpha === 1 ? 0 : (1 - alpha) * task) + (alpha === 0 ? 0 : alpha * distillation);
  }

  // What is drawn: NaN where a cell is pending, not finite or, on a log scale, not positive; and how many are which.
  function drawn(surface, state, log) {
    const { status } = grid(surface);
    const { values } = field(surface, state);
    const count = { pending: 0, broken: 0, low: 0 };
    const shown = values.map((value, i) => {
      if (status[i] === PENDING) count.pending++;
      else if (!Number.isFinite(value)) count.broken++;
      else if (log && value <= 0) count.low++;
      else return value;
      return NaN;
    });
    return { values: shown, count };
  }

  // Smallest and largest drawn value of some surfaces; null where there is none.
  function range(surfaces, state, log) {
    let low = Infinity, high = -Infinity;
    for (const surface of surfaces) {
      if (!has(surface, state.term)) continue;
      for (const value of drawn(surface, state, log).values) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    return low <= high ? [low, high] : null;
  }

  // Whether a log scale is needed to see it all: every value is positive, and they span a factor of 30 or more.
  function isWide(surfaces, state) {
    const found = range(surfaces, state, false);
    return found !== null && found[0] > 0 && found[1] / found[0] >= 30;
  }

  const every = methods.flatMap((method) => method.surfaces);

  // Stops along an axis on which the surfaces of a method differ ("epoch", "split"): what they have, and null last where
  // some of a method say it and others do not.
  function stops(key) {
    const found = new Set();
    for (const { surfaces } of methods) {
      const own = new Set(surfaces.map((surface) => surface[key]));
      if (own.size > 1 || !own.has(null)) own.forEach((stop) => found.add(stop));
    }
    const known = [...found].filter((stop) => stop !== null);
    known.sort(key === "epoch" ? (a, b) => a - b : (a, b) => b.localeCompare(a));
    return found.has(null) ? [...known, null] : known;
  }

  // The surface of a method at an epoch and a split. One whose files never say where they belong is shown everywhere.
  function at(method, state) {
    const silent = (key) => method.surfaces.every((surface) => surface[key] === null);
    return method.surfaces.find((surface) => ["epoch", "split"].every((key) => silent(key) || surface[key] === state[key])) ?? null;
  }

  function nearest(axis, coordinate) {
    let best = 0;
    axis.forEach((value, i) => { if (Math.abs(value - coordinate) < Math.abs(axis[best] - coordinate)) best = i; });
    return best;
  }

  // Borders of the first and the last cell along an axis, halfway to their neighbours and as far outside.
  function ends(axis) {
    const n = axis.length;
    if (n === 1) return [axis[0] - 0.5, axis[0] + 0.5];
    return [axis[0] - (axis[1] - axis[0]) / 2, axis[n - 1] + (axis[n - 1] - axis[n - 2]) / 2];
  }

  // Height between cells, for what is drawn on a surface; NaN outside and where a corner is missing.
  function height({ x, y, columns }, values, px, py) {
    const place = (axis, p) => {
      const i = Math.min(Math.max(axis.findLastIndex((value) => value <= p), 0), axis.length - 2);
      return [i, (p - axis[i]) / (axis[i + 1] - axis[i])];
    };
    if (x.length < 2 || y.length < 2) return NaN;
    const [j, u] = place(x, px), [i, v] = place(y, py);
    if (Math.min(u, v) < 0 || Math.max(u, v) > 1) return NaN;
    const row = (k) => (1 - u) * values[k * columns + j] + (u ? u * values[k * columns + j + 1] : 0);
    return (1 - v) * row(i) + (v ? v * row(i + 1) : 0);
  }

  return { PENDING, methods, every, array, grid, has, isTotal, field, mix, drawn, range, isWide, stops, at, nearest, ends, height };
})();
