// The page of gradient conflict.
"use strict";

(() => {
  const { element, root, plain, everyFrame } = page;
  const { methods, groups, pairs, of, nearest } = conflictNumbers;
  const { digits } = conflictTable;
  const { change, along } = conflictState;
  const PARTS = { parameter: "Parameters", layer: "Layers", block: "Blocks" };
  let view = null;
  let over = null;  // the layer under the pointer

  const infos = methods.map((method) => page.provenance(method.label, method.provenance));
  const lead = element("p", { class: "quiet lead" },
    "Two gradients with a cosine of 1 ask for the same step, with 0 they leave each other alone, below 0 each undoes some of what the other does. ",
    "Nothing is smoothed.");
  const group = page.choice("Records", groups, (value) => change({ group: value }));
  const pairBox = element("div", { class: "control" });
  const layerBox = element("div", { class: "control" });
  const reading = element("p", { class: "hidden", role: "status", "aria-live": "polite" });
  const said = element("ul", { class: "notes" });
  const numbers = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Methods and their numbers" });
  const lines = conflictPointer.chart("Cosine over training. Left and right arrows move the marked step, Escape takes it away.");
  const layers = conflictPointer.chart("Cosine of each layer over training. Left and right arrows move the marked step, "
    + "up and down choose a layer, Escape lets go of it.");
  const linesTitle = element("h2", {}, "Whole network");
  const layersTitle = element("h2", {});
  const cell = element("p", { class: "quiet small cell" });
  const undefinedSaid = element("p", { class: "quiet small" }, "Crossed out: no cosine, since a gradient is zero there.");

  function build() {
    const files = element("div", { class: "end" },
      page.button("CSV", () => conflictFiles.saveCsv(conflictState.get().pair), { title: "Every record of these two terms" }),
      page.button("PNG", () => conflictFiles.picture("png", view, title()), { title: "This view as a picture" }),
      page.button("SVG", () => conflictFiles.picture("svg", view, title()), { title: "This view as a drawing" }));
    const bar = element("div", { class: "controls" }, pairBox, layerBox, files);
    if (groups.length > 1) bar.prepend(group.box);
    const panel = (heading, ...content) => element("section", { class: "panel" }, element("header", {}, ...heading), ...content);
    const hint = element("span", { class: "quiet small" }, "Point at a chart, or use the arrow keys in it, to mark a step in both.");
    const defined = page.data.definitions.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]);
    const definitions = element("details", {}, element("summary", {}, "What the numbers mean"), element("dl", { class: "small" }, ...defined));
    root.classList.add("conflict");
    root.append(lead, bar, said, numbers, panel([linesTitle, hint], lines.box),
      panel([layersTitle, conflictCharts.key()], cell, layers.box, undefinedSaid), definitions, reading, ...infos.map(({ dialog }) => dialog));
  }

  const title = () => `Cosine of the gradients of ${view.pairText}: ${view.groupText}`;

  // Everything that the charts and the table need, of a state.
  function viewed(state) {
    const every = methods.map((method) => ({ method, found: of(method.index, state.group, state.pair) }));
    const shown = every.filter(({ method, found }) => found && state.shown.includes(method.index));
    const found = of(state.method, state.group, state.pair);
    const series = [...new Set([...shown.map((one) => one.found), found])];
    const rows = every.flatMap((one) => (one.found ? [one.found.cosine] : []));
    if (state.layer !== null) rows.push(found.layer(state.layer));
    const units = [...new Set(series.map(({ unit }) => unit))];
    return {
      every, shown, found, method: methods[state.method], layer: state.layer,
      layerLabel: state.layer === null ? "" : found.layers[state.layer] + (methods.length > 1 ? ` of ${methods[state.method].brief}` : ""),
      ...conflictAxes.across(series), upwards: conflictAxes.upwards(rows), unit: units.length > 1 ? "record" : units[0],
      sizes: conflictAxes.sizes(Math.max(280, lines.box.clientWidth), found.layers),
      parts: PARTS[methods[state.method].by] ?? "Parts",
      pairText: found.terms.join(" and "),
      groupText: groups.find(({ value }) => value === state.group).text,
    };
  }

  // What differs between the methods, and what their numbers leave out.
  function differences() {
    const known = view.every.filter(({ found }) => found);
    const names = (those) => those.map(({ method }) => method.brief).join(", ");
    const alike = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);
    const missing = view.every.filter(({ found }) => !found);
    const other = (part) => known.filter(({ found }) => !alike(Array.from(found[part]), Array.from(known[0].found[part])));
    const found = [];
    if (missing.length) found.push(`Not recorded for ${names(missing)}: ${title()}.`);
    const than = (part) => `The ${part} of ${names(other(part))} are others than those of ${known[0].method.brief}`;
    if (other("steps").length) found.push(`${than("steps")}: each is read at its nearest record.`);
    if (other("layers").length) found.push(`${than("layers")}.`);
    if (known.some(({ found: { unit } }) => unit !== known[0].found.unit)) {
      found.push("Some were recorded step by step, others measured batch by batch: their records do not correspond.");
    }
    for (const { method, found: { steps } } of known) if (!steps.length) found.push(`${method.brief} has no records.`);
    const notes = new Map();
    for (const { method, found: { notes: own } } of known) for (const note of own) notes.set(note, [...(notes.get(note) ?? []), method.brief]);
    for (const [note, whose] of notes) found.push(whose.length === methods.length ? note : `${whose.join(", ")}: ${note}`);
    return found;
  }

  // A list to choose from where there is more than one.
  function fill(box, label, options, value, act) {
    const focused = box.contains(document.activeElement);
    const made = page.choice(label, options, act);
    made.set(value);
    box.replaceChildren(...made.box.children);
    if (focused) box.querySelector("select").focus();
  }

  function draw(state) {
    view = viewed(state);
    group.set(state.group);
    const offered = pairs(state.group);
    pairBox.hidden = offered.length < 2;
    fill(pairBox, "Terms", offered, state.pair, (pair) => change({ pair }));
    const ofLayers = view.found.layers.map((text, value) => ({ text, value: String(value) }));
    const chosen = state.layer === null ? "" : String(state.layer);
    const choose = (value) => change({ layer: value === "" ? null : Number(value) });
    fill(layerBox, "Layer", [{ text: "none", value: "" }, ...ofLayers], chosen, choose);
    said.replaceChildren(...differences().map((text) => element("li", {}, text)));
    said.hidden = !said.children.length;
    layersTitle.textContent = methods.length > 1 ? `${view.parts} of ${view.method.label}` : view.parts;
    undefinedSaid.hidden = !view.found.layers.some((_, l) => view.found.layer(l).some(Number.isNaN));
    conflictTable.draw(numbers, view, state, infos.map(({ open }) => open), change);
    conflictCharts.lines(lines.plot, view);
    conflictCharts.layers(layers.plot, view);
    lines.lay(view.sizes.lines, view.sizes.width, view.range);
    layers.lay(view.sizes.layers, view.sizes.width, view.range);
  }

  // The records at the marked step: of each method that is shown, and of the chosen layer.
  function valuesAt(step) {
    const values = new Map();
    if (step === null) return values;
    const put = (key, { steps }, cosines, color) => {
      const at = nearest(steps, step);
      if (at >= 0) values.set(key, { step: steps[at], cosine: cosines[at], color });
    };
    for (const { method, found } of view.shown) put(method.index, found, found.cosine, conflictCharts.visible(method.color));
    if (view.layer !== null) put("layer", view.found, view.found.layer(view.layer), conflictCharts.mark());
    return values;
  }

  function mark({ step }) {
    const values = valuesAt(step);
    const [low, high] = view.upwards;
    const seen = [...values.values()].filter(({ cosine }) => !Number.isNaN(cosine));
    lines.mark(step, seen.map(({ step: x, cosine, color }) => ({ x, y: (high - cosine) / (high - low), color })));
    layers.mark(step);
    conflictTable.mark(step, values, view.unit.split(" ").at(-1));
    const name = (key) => (key === "layer" ? view.layerLabel : methods[key].brief);
    const told = [...values].map(([key, value]) => `${name(key)} ${digits(value.cosine)}${value.step === step ? "" : ` at ${value.step}`}`);
    reading.textContent = step === null ? "" : `At ${view.unit} ${step}: ${told.join(", ")}.`;
    tellCell(over ?? view.layer, step);
  }

  // One cell of the heat map in words.
  function tellCell(layer, step) {
    const at = step === null ? -1 : nearest(view.found.steps, step);
    const { found: { layers: names, steps, unit } } = view;
    const told = () => `${names[layer]} at ${unit} ${steps[at]}: ${digits(view.found.layer(layer)[at])}`;
    cell.textContent = layer === null || at < 0 ? "A click on a layer, or up and down, draws its line above." : told();
  }

  function listen() {
    const move = everyFrame((step) => change({ step }));
    const toNearest = (steps, step) => (steps.length ? steps[nearest(steps, step)] : null);
    const onPoint = (glass, act) => ["pointermove", "pointerdown"].forEach((kind) => glass.addEventListener(kind, act));
    onPoint(lines.glass, (event) => move(toNearest(view.steps, lines.at(event).step)));
    const rowAt = (event) => Math.floor(layers.at(event).share * view.found.layers.length);
    onPoint(layers.glass, (event) => {
      over = rowAt(event);
      move(toNearest(view.found.steps, layers.at(event).step));
    });
    layers.glass.addEventListener("pointerleave", () => { over = null; mark(conflictState.get()); });
    layers.glass.addEventListener("click", (event) => {
      const row = rowAt(event);
      change({ layer: row === conflictState.get().layer ? null : row });
    });
    const byStep = (steps) => ({
      ArrowLeft: () => change({ step: along(steps(), -1) }), ArrowRight: () => change({ step: along(steps(), 1) }),
      PageUp: () => change({ step: along(steps(), -10) }), PageDown: () => change({ step: along(steps(), 10) }),
      Home: () => change({ step: steps()[0] ?? null }), End: () => change({ step: steps().at(-1) ?? null }),
    });
    const toLayer = (by) => {
      const { layer } = conflictState.get();
      const last = view.found.layers.length - 1;
      change({ layer: layer === null ? (by > 0 ? 0 : last) : Math.max(0, Math.min(last, layer + by)) });
    };
    conflictPointer.keys(lines.glass, { ...byStep(() => view.steps), Escape: () => change({ step: null }) });
    conflictPointer.keys(layers.glass, {
      ...byStep(() => Array.from(view.found.steps)), ArrowUp: () => toLayer(-1), ArrowDown: () => toLayer(1), Escape: () => change({ layer: null }),
    });
  }

  build();
  listen();
  const follow = (state, redraw) => { if (redraw) draw(state); mark(state); };
  conflictState.onChange(follow);
  const again = everyFrame(() => follow(conflictState.get(), true));
  page.onTheme(again);
  let width = 0;
  new ResizeObserver(() => { if (lines.box.clientWidth !== width) { width = lines.box.clientWidth; again(); } }).observe(lines.box);
  follow(conflictState.get(), true);
  document.fonts.ready.then(() => page.root.setAttribute("data-ready", "yes"));
})();
