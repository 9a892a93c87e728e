// What the cross-hair reads, in words.
"use strict";

const readings = (() => {
  const place = ({ x, y }) => `x = ${page.number(x)}${y === null ? "" : `, y = ${page.number(y)}`}`;
  const within = (value, half) => `${page.number(value)}${Number.isFinite(half) ? ` ± ${page.number(half, 2)}` : ""}`;

  // One cell of a plane or of a single line.
  function cell(surface, grid, i, state, log = false) {
    const { values, half } = fields.field(surface, state);
    if (grid.status[i] === fields.PENDING) return `${state.term} pending`;
    if (!Number.isFinite(values[i])) return `${state.term} not finite`;
    return `${state.term} = ${within(values[i], half[i])}${log && values[i] <= 0 ? " (not shown on a log scale)" : ""}`;
  }

  // All lines of a bundle at one place.
  function line(surface, grid, j, state) {
    if (grid.rows === 1) return cell(surface, grid, j, state);
    const { values } = fields.field(surface, state);
    const cells = Array.from({ length: grid.rows }, (_, i) => i * grid.columns + j);
    const known = cells.filter((i) => grid.status[i] !== fields.PENDING && Number.isFinite(values[i])).map((i) => values[i]);
    if (known.length < cells.length) return `${state.term}: ${cells.length - known.length} of ${cells.length} lines pending or not finite`;
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    const [low, high] = [Math.min(...known), Math.max(...known)].map((value) => page.number(value));
    return `${state.term} = ${page.number(mean)}, mean of ${cells.length} lines from ${low} to ${high}`;
  }

  return { place, within, cell, line };
})();
