// One panel for each method: its charts, the cross-hair on them, and its readings in words.
"use strict";

const panels = (() => {
  const lines = page.data.kind === "lines";
  const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const GUIDE = "Arrow keys move the cross-hair, Home puts it on the origin.";
  const TURNING = `${GUIDE} Shift with arrow keys turns the view, plus and minus zoom, 0 resets it.`;

  class Panel {
    // `act` has at([x, y]), camera(camera, panel) and resetCamera(), for what the reader does here.
    constructor(method, act) {
      Object.assign(this, { method, act, surface: null, camera: null, following: 0 });
      const { open, dialog } = page.provenance(method.name, []);
      this.dialog = dialog;
      this.title = page.element("h2", { id: page.id("method"), class: "short", title: method.name }, method.name);
      this.caption = page.element("p", { class: "caption quiet small" });
      this.summary = page.element("p", { class: "hidden", id: page.id("summary") });
      this.reading = page.element("p", { class: "reading" });
      this.bar = page.element("div", { class: "own-bar" });
      this.empty = page.element("p", { class: "empty quiet", hidden: "" });
      this.charts = page.element("div", { class: "charts" });
      this.flat = page.element("div", { class: "chart", "aria-hidden": "true" });
      this.cross = this.makeCross();
      const planar = page.element("div", { class: lines ? "box curves" : "box plane" }, this.flat, this.cross);
      if (!lines) this.charts.append(this.makeScene());
      this.charts.append(planar);
      this.article = page.element("article", { class: "panel", "aria-labelledby": this.title.id },
        page.element("header", {}, this.title, open), this.caption, this.charts, this.empty, this.bar, this.reading, this.summary, dialog);
    }

    makeScene() {
      this.scene = page.element("div", { class: "chart", "aria-hidden": "true" });
      this.dot = page.element("div", { class: "dot", hidden: "" });
      const box = this.focusable("box scene", "3-D view", TURNING, this.scene, this.dot);
      box.addEventListener("keydown", (event) => this.turn(event));
      box.addEventListener("pointermove", () => { this.aimed = true; });
      return box;
    }

    makeCross() {
      this.ring = page.element("div", { class: "ring" });
      const hairs = ["hair across", "hair along"].map((name) => page.element("div", { class: name }));
      const { l, r, t, b } = figures.MARGIN;
      const cross = this.focusable("cross", lines ? "curves" : "seen from above", GUIDE, ...hairs, this.ring);
      cross.style.inset = `${t}px ${r}px ${b}px ${l}px`;
      const follow = (event) => {
        const box = cross.getBoundingClientRect();
        this.point((event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height);
      };
      cross.addEventListener("pointermove", follow);
      cross.addEventListener("pointerdown", follow);
      return cross;
    }

    // Charts take keys of their own, which screen readers leave to them in an "application".
    focusable(name, what, guide, ...children) {
      const box = page.element("div", {
        class: name, tabindex: "0", role: "application", "aria-label": `${this.method.name}, ${what}. ${guide}`,
        "aria-describedby": this.summary.id,
      }, ...children);
      box.addEventListener("keydown", (event) => this.step(event));
      return box;
    }

    // The pointer at a share of the width and height of the plane from above.
    point(u, v) {
      if (!this.surface) return;
      const place = ([first, last], share) => first + share * (last - first);
      const { x, y } = this.grid;
      this.act.at([x[fields.nearest(x, place(this.sides.x, u))], y ? y[fields.nearest(y, place(this.sides.y, v))] : 0]);
    }

    step(event) {
      if (event.shiftKey || event.ctrlKey || event.altKey || event.metaKey || !this.surface) return;
      if (event.key === "Home") this.act.at([0, 0]);
      else if (event.key in KEYS) {
        const [dx, dy] = KEYS[event.key];
        const { x, y } = this.grid;
        const moved = (axis, i, by) => axis[Math.min(Math.max(i + by, 0), axis.length - 1)];
        this.act.at([moved(x, this.cell.j, dx), y ? moved(y, this.cell.i, dy) : 0]);
      } else return;
      event.preventDefault();
    }

    turn(event) {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const zoom = { "+": 1 / 1.15, "=": 1 / 1.15, "-": 1.15, _: 1.15 }[event.key];
      const [around, up] = event.shiftKey && event.key in KEYS ? KEYS[event.key] : [0, 0];
      if (event.key === "0") this.act.resetCamera();
      else if (zoom || around || up) this.act.camera(cameras.turned(this.camera, around * 0.15, up * 0.12, zoom ?? 1), null);
      else return;
      event.preventDefault();
    }

    // Draw a surface, or say why there is none.
    async draw(surface, why, state, scale) {
      Object.assign(this, { surface, camera: state.camera, aimed: false });
      this.charts.hidden = this.reading.hidden = !surface;
      this.empty.hidden = Boolean(surface);
      this.empty.textContent = why;
      this.bar.replaceChildren();
      this.describe(state, scale, why);
      if (!surface) return;
      this.grid = fields.grid(surface);
      const { x, y } = this.grid;
      this.sides = lines ? { x: x.length > 1 ? [x[0], x.at(-1)] : fields.ends(x) } : { x: fields.ends(x), y: fields.ends(y) };
      const { values } = this.drawn;
      const { half } = fields.field(surface, state);
      if (lines) {
        await this.react(this.flat, figures.curves(surface, values, half, scale));
      } else {
        await this.react(this.flat, figures.plane(surface, values, scale));
      }
    }

    // The same in 3-D, which takes longer.
    async drawScene(state, scale) {
      if (!this.surface || lines) return;
      await this.react(this.scene, figures.scene(this.surface, this.drawn.values, scale, state.camera));
      this.listen();
    }

    react(chart, { data, layout }) {
      return Plotly.react(chart, data, layout, page.config);
    }

    listen() {
      if (this.listening) return;
      this.listening = true;
      const moved = (event) => {
        const camera = event["scene.camera"];
        if (camera && !this.following) this.act.camera({ eye: camera.eye, center: camera.center }, this);
      };
      this.scene.on("plotly_relayouting", moved);
      this.scene.on("plotly_relayout", moved);
      // plotly also reports what comes to lie under a pointer that rests.
      this.scene.on("plotly_hover", ({ points: [{ x, y }] }) => {
        if (!this.aimed) return;
        const { x: columns, y: rows } = this.grid;
        this.act.at([columns[fields.nearest(columns, x)], rows[fields.nearest(rows, y)]]);
      });
    }

    async look(camera) {
      Object.assign(this, { camera, aimed: false });
      if (!this.surface) return;
      this.following++; // what plotly reports meanwhile is not the reader's doing
      await Plotly.relayout(this.scene, { "scene.camera": { up: { x: 0, y: 0, z: 1 }, ...camera } });
      this.following--;
    }

    // The line under the name, the table of provenance, and what a screen reader says of the charts.
    describe(state, scale, why) {
      const { surface } = this;
      this.drawn = surface && fields.drawn(surface, state, scale.log);
      this.caption.textContent = surface ? said(surface, this.drawn.count, scale.log) : "";
      this.summary.textContent = surface ? summary(surface, this.drawn, state, scale) : why;
      const rows = surface ? surface.attrs : this.method.surfaces.flatMap(({ attrs }) => attrs);
      this.dialog.querySelector("tbody").replaceChildren(
        ...rows.map(([key, text]) => page.element("tr", {}, page.element("th", { scope: "row" }, key), page.element("td", {}, text))));
    }

    // The cross-hair at the nearest cell of this grid.
    mark([px, py], state, log) {
      if (!this.surface) { this.reading.replaceChildren(); return ""; }
      const { x, y, columns } = this.grid;
      this.cell = { j: fields.nearest(x, px), i: y ? fields.nearest(y, py) : 0 };
      const inside = (axis, p) => { const [first, last] = fields.ends(axis); return p >= first && p <= last; };
      const outside = !inside(x, px) || (y && !inside(y, py));
      const here = { x: x[this.cell.j], y: y ? y[this.cell.i] : null };
      const text = outside ? "outside of this grid" : lines
        ? readings.line(this.surface, this.grid, this.cell.j, state)
        : readings.cell(this.surface, this.grid, this.cell.i * columns + this.cell.j, state, log);
      this.reading.replaceChildren(page.element("span", { class: "quiet" }, `${readings.place(here)}: `), text);
      this.cross.classList.toggle("off", outside);
      this.placeCross(here);
      this.here = outside ? null : here;
      this.placeDot();
      return `${this.method.name} ${text}`;
    }

    placeCross({ x, y }) {
      const share = ([first, last], value) => `${(100 * (value - first)) / (last - first)}%`;
      this.cross.style.setProperty("--x", share(this.sides.x, x));
      this.cross.style.setProperty("--y", y === null ? "-10%" : share(this.sides.y, y));
    }

    // The mark in 3-D lies over the picture, where the cell's height is seen from the camera.
    placeDot() {
      if (lines || !this.surface || !this.scene.layout) return; // there is no scene before it is drawn
      const at = this.here && cameras.seen(this.scene, this.here, this.height());
      this.dot.hidden = !at;
      if (at) this.dot.style.translate = `${at[0]}px ${at[1]}px`;
    }

    height() {
      const { i, j } = this.cell;
      const layout = this.scene.layout.scene.zaxis;
      const value = this.scene.data[0].z[i]?.[j] ?? this.scene.data[0].z[i * this.grid.columns + j];
      return Number.isFinite(value) ? value : layout.range[0];
    }
  }

  function said(surface, { pending, broken, low }, log) {
    const holes = [[pending, "pending"], [broken, "not finite"], [low, "zero or negative, not shown on a log scale"]];
    const when = [surface.epoch === null ? "" : `epoch ${surface.epoch}`, surface.split ?? ""];
    return [...when, ...surface.said, ...holes.filter(([n]) => n).map(([n, what]) => `${page.count(n, "cell")} ${what}`)].filter(Boolean).join(" · ");
  }

  function summary(surface, { values }, state, scale) {
    const { x, y, columns } = fields.grid(surface);
    let low = -1, high = -1;
    values.forEach((value, i) => {
      if (value < values[low] || (low < 0 && !Number.isNaN(value))) low = i;
      if (value > values[high] || (high < 0 && !Number.isNaN(value))) high = i;
    });
    if (low < 0) return `${state.term}: nothing to show.`;
    const place = (i) => readings.place({ x: x[i % columns], y: y ? y[Math.floor(i / columns)] : null });
    return `${state.term} from ${scales.text(values[low])} at ${place(low)} to ${scales.text(values[high])} at ${place(high)}` +
      `${scale.log ? ", log scale" : ""}.`;
  }

  return { Panel };
})();
