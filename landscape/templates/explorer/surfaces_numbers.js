// The table of numbers, one column for each method.
"use strict";

const numbers = (() => {
  const { definitions, total } = page.data;
  const number = (value) => (value === null || value === undefined ? NaN : Number(value));
  const defined = (name, text) => page.element("details", {}, page.element("summary", {}, name), page.element("p", {}, text));

  function shown({ value, low, high, note, at_least: atLeast }) {
    const interval = Number.isNaN(number(low)) ? "" : ` (${page.number(number(low), 3)} to ${page.number(number(high), 3)})`;
    const text = Number.isNaN(number(value)) ? "undefined" : `${atLeast ? "≥ " : ""}${page.number(number(value), 3)}${interval}`;
    return note ? page.element("span", {}, text, page.element("small", { class: "quiet" }, note)) : text;
  }

  // A number that could not be had, with its reason.
  function lacking(why) {
    return why ? page.element("span", {}, "–", page.element("small", { class: "quiet" }, why)) : "–";
  }

  function origin(surface, { term, alpha }) {
    const [value, half] = [0, 1].map((i) => {
      const of = (name) => number(surface.origin[name][i]);
      return fields.isTotal(term) ? fields.mix(of(total.task), of(total.distillation), alpha) : of(term);
    });
    return readings.within(value, half);
  }

  function minimum(surface, state) {
    const { x, y, columns } = fields.grid(surface);
    const { values } = fields.drawn(surface, state, false);
    let low = -1;
    values.forEach((value, i) => { if (value < values[low] || (low < 0 && !Number.isNaN(value))) low = i; });
    if (low < 0) return lacking("nothing finite");
    const place = readings.place({ x: x[low % columns], y: y ? y[Math.floor(low / columns)] : null });
    return page.element("span", {}, page.number(values[low]), page.element("small", { class: "quiet" }, `at ${place}`));
  }

  // Numbers of the surface. Of a sum of terms those that add up are known.
  function ofSurface(surface, { term, alpha }) {
    if (!fields.isTotal(term)) return surface.numbers[term];
    const [task, distillation] = [total.task, total.distillation].map((of) => surface.numbers[of]);
    return task.map((row, i) => {
      const other = distillation[i];
      if (row.why || other.why) return { ...row, why: row.why ?? other.why };
      if (!row.linear) return { ...row, why: "of measured terms only" };
      return { is: row.is, key: row.key, value: fields.mix(number(row.value), number(other.value), alpha) };
    });
  }

  // Rows [heading, cell of each method, ...] for all definitions that some method has a number of.
  function merged(columns) {
    const used = [...new Set(columns.flatMap((rows) => rows.filter((row) => "is" in row).map((row) => row.is)))].sort((a, b) => a - b);
    return used.map((is) => {
      const { key, name, text } = definitions[is];
      return [defined(name, text), ...columns.map((rows) => {
        const row = rows.find((one) => one.is === is) ?? rows.find((one) => !("is" in one) && one.key === key);
        return row && "value" in row && !row.why ? shown(row) : lacking(row?.why);
      })];
    });
  }

  const kinds = new Map(fields.methods.flatMap(({ flatness }) => flatness.map(({ of }) => [of.join(" on "), of])));

  function table(views, state) {
    const names = views.map(({ method }) => page.element("span", { class: "short", title: method.name }, method.name));
    const here = views.map(({ surface }) => surface);
    const each = (make) => here.map((surface) => (surface ? make(surface, state) : lacking()));
    const rows = [
      [defined("value at the origin", "At the unperturbed weights; ± half of the 95 % interval."), ...each(origin)],
      [defined("minimum on the grid", "The lowest value of all cells; between them it may be lower."), ...each(minimum)],
      ...merged(here.map((surface) => (surface ? ofSurface(surface, state) : []))),
    ];
    const tables = [page.table(`Numbers of ${state.term}`, ["", ...names], rows)];
    for (const [said, of] of kinds) {
      const columns = views.map(({ method }) => method.flatness.find((one) => one.of.join() === of.join())?.rows ?? []);
      tables.push(page.table(`Flatness of ${said}, with 95 % intervals`, ["", ...names.map((name) => name.cloneNode(true))], merged(columns)));
    }
    return tables.map((one) => page.element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": one.caption.textContent }, one));
  }

  return { table };
})();
