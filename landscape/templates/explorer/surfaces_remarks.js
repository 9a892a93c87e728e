// What must not be missed about a view, in sentences.
"use strict";

const remarks = (() => {
  const lines = page.data.kind === "lines";
  const LARGEST = 1e30; // 3-D is drawn in single precision
  const name = ({ method }) => method.name;

  // Why a method shows nothing; empty where it shows something.
  function why(method, surface, state, log) {
    if (!surface) return `${method.name} has no surface of ${[state.epoch === null ? "" : `epoch ${state.epoch}`, state.split ?? ""].filter(Boolean).join(", ") || "this kind"}.`;
    if (!fields.has(surface, state.term)) return `${state.term} was not measured for ${method.name}.`;
    const { count, values } = fields.drawn(surface, state, log);
    if (values.some((value) => !Number.isNaN(value))) return "";
    if (count.pending === values.length) return `All cells of ${method.name} are pending: finish the measurement first.`;
    if (count.low) return `No value of ${state.term} of ${method.name} is above zero: choose the linear scale.`;
    return `No value of ${state.term} of ${method.name} is finite.`;
  }

  function size(surface) {
    const { x, y, columns, rows } = fields.grid(surface);
    const from = (axis) => `${page.number(axis[0])} to ${page.number(axis.at(-1))}`;
    return y ? `${columns} x ${rows} cells, x ${from(x)}, y ${from(y)}` : `${columns} points, x ${from(x)}`;
  }

  const unit = (surface) => surface.labels.x;

  // A sentence where the methods differ in something that is said of a surface.
  function differing(views, say, what) {
    const known = new Map();
    for (const view of views) known.set(say(view.surface), [...(known.get(say(view.surface)) ?? []), name(view)]);
    if (known.size < 2) return [];
    return [`${what} (${[...known].map(([text, names]) => `${names.join(", ")}: ${text}`).join("; ")}).`];
  }

  function of(views, state, log) {
    const known = views.filter(({ surface }) => surface);
    const found = [
      ...differing(known, size, "The grids differ; each method is read at its own nearest cell, and linked by value"),
      ...differing(known, unit, "The coordinates differ"),
      ...differing(known, (surface) => Object.keys(surface.values).join(", "), "The measured terms differ"),
      ...differing(known, (surface) => (surface.split ?? "not said"), "The examples differ"),
    ];
    const hidden = known.map((view) => [name(view), fields.drawn(view.surface, state, log).count.low]).filter(([, n]) => n);
    if (hidden.length) found.push(`A log scale cannot show values of zero or less: ${hidden.map(([of, n]) => `${page.count(n, "cell")} of ${of}`).join(", ")} not shown.`);
    if (!lines && known.some(({ scale }) => Math.max(...scale.range.map(Math.abs)) > LARGEST && !scale.log)) {
      found.push(`Values beyond ${LARGEST} cannot be drawn in 3-D on a linear scale: choose the log scale.`);
    }
    if (fields.isTotal(state.term)) found.push("The error of the total is an upper bound: the sum of the errors of its parts.");
    if (state.colors === "own" && views.length > 1) {
      found.push(`Every method has ${lines ? "heights" : "colours and heights"} of its own: compare numbers, not ${lines ? "heights" : "colours"}.`);
    }
    return found;
  }

  return { why, of };
})();
