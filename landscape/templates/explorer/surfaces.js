// The page of surfaces: its controls, and what follows when one is used.
"use strict";

(() => {
  const { data, root } = page;
  const lines = data.kind === "lines";
  let state = choices.read(page.address.read());
  let views = [];
  let drawing = Promise.resolve();

  const subtitle = page.element("p", { class: "quiet" });
  const notes = page.element("ul", { class: "notes" });
  const bar = page.element("div", { class: "shared-bar" });
  const tables = page.element("section", { class: "tables", "aria-label": "Numbers" });
  const live = page.element("p", { class: "hidden", role: "status", "aria-live": "polite" });

  const tell = page.whenQuiet((text) => { live.textContent = text; }, 400);
  const act = {
    at: page.everyFrame((at) => {
      if (state.at[0] === at[0] && state.at[1] === at[1]) return;
      change({ at });
    }),
    camera: page.everyFrame((camera, source) => {
      if (!cameras.alike(camera, state.camera)) turn(camera, source);
    }),
    resetCamera: () => turn(choices.CAMERA, null),
  };
  const panels_ = fields.methods.map((method) => new panels.Panel(method, act));

  // Changes of what is drawn; the cross-hair alone draws nothing anew.
  function change(some) {
    state = { ...state, ...some };
    page.address.write(choices.written(state));
    if (Object.keys(some).join() === "at") mark();
    else draw();
  }

  function turn(camera, source) {
    state = { ...state, camera };
    page.address.write(choices.written(state));
    for (const panel of panels_) {
      if (panel === source) panel.camera = camera;
      else panel.look(camera);
    }
    requestAnimationFrame(() => panels_.forEach((panel) => panel.placeDot()));
    settle();
  }
  // A scene computes its lenses when it draws, some frames after it was asked to.
  const settle = page.whenQuiet(() => panels_.forEach((panel) => panel.placeDot()), 150);

  const controls = toolbar();
  root.append(subtitle, controls.box, notes, bar,
    page.element("section", { class: `panels of-${panels_.length}`, "aria-label": "Surfaces" }, ...panels_.map(({ article }) => article)), tables, live);

  function toolbar() {
    const option = (value) => ({ value, text: value });
    const stop = (of) => (of === null ? "not said" : String(of));
    const { terms, epochs, splits } = choices;
    const parts = {
      term: page.choice("Term", terms.map(option), (term) => change({ term })),
      alpha: page.slider("α", { min: 0, max: 1, step: 0.01 }, (alpha) => alpha.toFixed(2), page.everyFrame((alpha) => change({ alpha }))),
      scale: page.segments("Scale", ["linear", "log"].map(option), (scale) => change({ scale })),
      colors: page.segments(lines ? "Heights" : "Colours", ["shared", "own"].map(option), (colors) => change({ colors })),
    };
    if (splits.length > 1) {
      parts.split = page.segments("Examples", splits.map((split) => option(split ?? "not said")), (text) =>
        change({ split: splits.find((split) => stop(split) === text) }));
    }
    if (epochs.length > 1) {
      parts.epoch = page.slider("Epoch", { min: 0, max: epochs.length - 1, step: 1 }, (i) => stop(epochs[i]), page.everyFrame((i) => change({ epoch: epochs[i] })));
    }
    const view = () => ({ shared: state.colors === "shared", label: subtitle.textContent, name: lines ? "lines" : "surfaces" });
    const buttons = [
      page.button("Reset view", () => { change({ at: choices.defaults.at }); turn(choices.CAMERA, null); }),
      page.button("PNG", () => downloads.asPng(views, view()), { "aria-label": "Download the view as PNG" }),
      page.button("SVG", () => downloads.asSvg(views, view()), { "aria-label": lines ? "Download the curves as SVG" : "Download the contours as SVG" }),
      page.button("CSV", downloads.asCsv, { "aria-label": "Download all data as CSV" }),
    ];
    const box = page.element("div", { class: "controls", role: "group", "aria-label": "What is shown" },
      ...Object.values(parts).map((part) => part.box), page.element("div", { class: "end" }, ...buttons));
    return { box, parts };
  }

  function follow() {
    const { parts } = controls;
    parts.term.set(state.term);
    parts.alpha.set(state.alpha);
    parts.alpha.box.hidden = !fields.isTotal(state.term);
    parts.scale.set(log ? "log" : "linear");
    parts.colors.set(state.colors);
    parts.split?.set(state.split ?? "not said");
    parts.epoch?.set(choices.epochs.indexOf(state.epoch));
  }

  // Drawings follow each other; of those that wait only the last is made.
  let asked = 0;
  function draw() {
    const mine = ++asked;
    root.setAttribute("aria-busy", "true");
    drawing = drawing.then(async () => {
      if (mine !== asked) return;
      await drawNow();
      if (mine === asked) root.removeAttribute("aria-busy");
    });
  }

  let log = false; // whether heights are asked for on a log scale, also where nothing can be shown on one
  async function drawNow() {
    log = (state.scale ?? (fields.isWide(fields.every, state) ? "log" : "linear")) === "log";
    follow();
    const common = state.colors === "shared" && fields.range(fields.every, state, log);
    views = panels_.map((panel) => view(panel, log, common));
    subtitle.textContent = heading();
    notes.replaceChildren(...remarks.of(views, state, log).map((text) => page.element("li", {}, text)));
    tables.replaceChildren(...numbers.table(views, state));
    bars();
    for (const { panel, surface, why, scale } of views) await panel.draw(surface, why, state, scale);
    bars();
    mark();
    await page.seen();
    for (const { panel, scale } of views) await panel.drawScene(state, scale);
    mark();
    settle();
  }

  // What a panel shows now, and in which scale; or why it shows nothing.
  function view(panel, log, common) {
    const { method } = panel;
    const surface = fields.at(method, state);
    const why = remarks.why(method, surface, state, log);
    const range = why ? null : common || fields.range([surface], state, log);
    return { panel, method, surface: why ? null : surface, why, scale: scales.scale(range ?? [0, 1], range ? log : false) };
  }

  function heading() {
    if (!fields.isTotal(state.term)) return data.terms.find(({ name }) => name === state.term).label;
    return `${state.term} = (1 − α) ${data.total.task} + α ${data.total.distillation}, α = ${state.alpha.toFixed(2)}`;
  }

  // One bar of colours for all, or one for each.
  function bars() {
    const known = views.filter(({ surface }) => surface);
    bar.replaceChildren();
    if (lines || !known.length) return;
    const label = ({ scale }) => `${state.term}${scale.log ? " (log scale)" : ""} · lines every ${scale.every}`;
    const made = (view, room) => [scales.bar(view.scale, Math.min(room.clientWidth || 360, 520)), page.element("span", { class: "quiet small" }, label(view))];
    if (state.colors === "shared") bar.append(...made(known[0], bar));
    else for (const view of known) view.panel.bar.replaceChildren(...made(view, view.panel.bar));
  }

  function mark() {
    const texts = panels_.map((panel) => panel.mark(state.at, state, log)).filter(Boolean);
    tell(`${readings.place({ x: state.at[0], y: lines ? null : state.at[1] })}. ${texts.join("; ")}.`);
  }

  page.address.onChange((texts) => { state = choices.read(texts); draw(); });
  page.onTheme(draw);
  addEventListener("resize", page.whenQuiet(() => { bars(); panels_.forEach((panel) => panel.placeDot()); }, 150));
  draw();
})();
