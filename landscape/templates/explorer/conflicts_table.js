// The table of methods: what is shown of each, its value at the marked step, and its numbers.
"use strict";

const conflictTable = (() => {
  const { element, number, id } = page;
  const UNMARKED = "at the marked step";
  const SVG = "http://www.w3.org/2000/svg";
  const MARKERS = {
    circle: "M16 6a4 4 0 1 0 .01 0", square: "M12 6h8v8h-8z", diamond: "M16 5l5 5-5 5-5-5z", "triangle-up": "M16 5l5 9h-10z",
    "triangle-down": "M16 15l5-9h-10z", cross: "M14 5h4v3h3v4h-3v3h-4v-3h-3v-4h3z",
  };

  // A piece of a line, as in the chart.
  function swatch(color, dash, symbol, stroke = { "stroke-width": 2 }) {
    const make = (tag, attributes) => {
      const made = document.createElementNS(SVG, tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      return made;
    };
    const picture = make("svg", { width: 32, height: 20, viewBox: "0 0 32 20", "aria-hidden": "true" });
    const dashes = dash === "solid" ? {} : { "stroke-dasharray": dash.replaceAll("px", "") };
    picture.append(make("path", { d: "M0 10H32", stroke: color, ...stroke, ...dashes }));
    if (symbol) picture.append(make("path", { d: MARKERS[symbol], fill: color }));
    return picture;
  }

  function named(text, picture, button) {
    return element("div", { class: "name" }, picture, element("span", {}, text), button);
  }

  // A cosine: three digits after the point, more where these would hide it.
  function digits(value) {
    if (Number.isNaN(value)) return "undefined";
    return value !== 0 && Math.abs(value) < 0.001 ? value.toPrecision(2) : value.toFixed(3);
  }
  const between = (low, high) => (Number.isNaN(low) ? "unknown" : `${digits(low)} to ${digits(high)}`);
  const share = (value) => (Number.isNaN(value) ? "undefined" : `${number(100 * value, 3)} %`);

  // How many records there are, and how many of them have a cosine.
  const counted = (known, records) => (known < records ? `${known} of ${records}` : String(records));

  // A box to tick, or a choice of one; the name of what it stands for is read out with it.
  function control(type, group, label, checked, disabled, act) {
    const input = element("input", { type, name: group, id: id(group), "aria-label": label });
    Object.assign(input, { checked, disabled });
    input.addEventListener("change", () => act(input.checked));
    return input;
  }

  // Cells that follow the marked step, by what they are of.
  let cells = new Map();

  function row(method, found, state, info, change) {
    const cell = element("span", { class: "at-step" });
    cells.set(method.index, cell);
    const others = state.shown.filter((other) => other !== method.index);
    const shown = (on) => change({ shown: on ? [...others, method.index] : others });
    const [none, drawn] = [found === null, found !== null && state.shown.includes(method.index)];
    const line = control("checkbox", "line", `line of ${method.label}`, drawn, none, shown);
    const choose = () => change({ method: method.index });
    const layers = control("radio", "layers", `layers of ${method.label}`, state.method === method.index, none, choose);
    const name = named(method.label, swatch(conflictCharts.visible(method.color), method.dash, method.symbol), info);
    if (found === null) return [name, line, layers, cell, "not recorded", "", "", "", "", ""];
    const { mean, low, high, negative, fewest, most, whole, halves, known, records } = found.numbers;
    const measured = [whole, halves].map((value) => (found.measured ? digits(value) : "not measured"));
    const range = Number.isNaN(fewest) ? "unknown" : `${share(fewest)} to ${share(most)}`;
    const negatives = element("span", { title: `95 % interval ${range}` }, share(negative));
    return [name, line, layers, cell, digits(mean), between(low, high), negatives, ...measured, counted(known, records)];
  }

  function layerRow(view, change) {
    const cell = element("span", { class: "at-step" });
    cells.set("layer", cell);
    const { mean, negative, known } = conflictNumbers.averages(view.found.layer(view.layer));
    const remove = page.button("×", () => change({ layer: null }), {
      class: "info remove", "aria-label": `Remove the line of ${view.layerLabel}`, title: "Remove",
    });
    const broad = swatch(conflictCharts.mark(), "solid", "", { "stroke-width": 4, opacity: 0.55 });
    return [named(view.layerLabel, broad, remove), "", "", cell, digits(mean), "", share(negative), "", "", counted(known, view.found.steps.length)];
  }

  // The table anew; `infos` are the buttons to the methods' provenance. The control that had the focus keeps it.
  function draw(place, view, state, infos, change) {
    const focused = place.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    cells = new Map();
    const measured = view.every.some(({ found }) => found?.measured);
    const averages = ["mean cosine", "95 % interval", "fraction negative", "all examples", "split halves", "records"];
    const head = ["method", "line", "layers", UNMARKED, ...averages];
    const rows = view.every.map(({ method, found }) => row(method, found, state, infos[method.index], change));
    if (view.layer !== null) rows.push(layerRow(view, change));
    const without = [...(conflictNumbers.methods.length > 1 ? [] : [1, 2]), ...(measured ? [] : [7, 8])];
    const kept = (cells) => cells.filter((_, i) => !without.includes(i));
    const table = page.table(`Cosine of the gradients of ${view.pairText}: ${view.groupText}`, kept(head), rows.map(kept), { class: "methods" });
    cells.set("head", [...table.querySelectorAll("thead th")].find((heading) => heading.textContent === UNMARKED));
    cells.get("head").classList.add("step");
    table.caption.replaceChildren(element("span", {}, table.caption.textContent));
    place.replaceChildren(table);
    if (focused !== null) [...place.querySelectorAll("[aria-label]")].find((one) => one.getAttribute("aria-label") === focused)?.focus();
  }

  // Values at the marked step, by what they are of; a record at another step says so.
  function mark(step, values, unit) {
    cells.get("head").textContent = step === null ? UNMARKED : `at ${unit} ${step}`;
    for (const [of, cell] of cells) {
      if (of === "head") continue;
      const value = values.get(of);
      cell.textContent = value === undefined ? "–" : value.step === step ? digits(value.cosine) : `${digits(value.cosine)} (at ${value.step})`;
    }
  }

  return { draw, mark, digits };
})();
