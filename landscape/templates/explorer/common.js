// What every page shares: its data, elements and controls, numbers as text, the theme, the state in the address, files.
"use strict";

const page = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.getElementById("page");
  const KINDS = { f64: Float64Array, u8: Uint8Array };

  // An array of landscape.explorer.arrays: {shape, values}, its values typed and in the order of rows.
  function unpacked(packed) {
    const kind = "u8" in packed ? "u8" : "f64";
    const letters = atob(packed[kind]);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return { shape: packed.shape, values: new KINDS[kind](bytes.buffer) };
  }

  // An element with attributes and children; texts are never read as HTML.
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  // plotly reads its texts as a dialect of HTML.
  function plain(text) {
    return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  // A number as `digits` significant ones, short: 0.1 and not 0.1000, 1.2e-7 where zeros would hide it.
  function number(value, digits = 4) {
    return Number.isFinite(value) ? String(Number(value.toPrecision(digits))) : String(value);
  }

  function count(n, what) {
    return `${n} ${what}${n === 1 ? "" : "s"}`;
  }

  // Calls of one frame become one, with the arguments of the last.
  function everyFrame(act) {
    let waiting = null;
    return (...of) => {
      if (waiting === null) requestAnimationFrame(() => { const last = waiting; waiting = null; act(...last); });
      waiting = of;
    };
  }

  // Calls become one, once there has been none for a while.
  function whenQuiet(act, milliseconds) {
    let timer = 0;
    return (...of) => {
      clearTimeout(timer);
      timer = setTimeout(() => act(...of), milliseconds);
    };
  }

  // Colours of the theme, as the style sheet has them.
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  function theme() {
    const style = getComputedStyle(document.documentElement);
    const named = ["ink", "quiet", "paper", "tint", "rule", "link"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]);
    return { ...Object.fromEntries(named), font: getComputedStyle(document.body).fontFamily, dark: darkness.matches };
  }
  function onTheme(act) {
    darkness.addEventListener("change", () => act());
  }

  // What every plotly layout starts with; the background is that of the page.
  function layout(more = {}) {
    const { ink, font } = theme();
    const clear = "rgba(0,0,0,0)";
    return { paper_bgcolor: clear, plot_bgcolor: clear, font: { family: font, size: 11, color: ink }, showlegend: false, ...more };
  }
  const config = { displayModeBar: false, displaylogo: false, responsive: true, doubleClick: false, showTips: false };

  // The state in the address, as readable keys. Where an address cannot be written (a frame without its own), it stays.
  const address = {
    read: () => Object.fromEntries(new URLSearchParams(location.hash.slice(1))),
    write: whenQuiet((state) => {
      const text = `#${new URLSearchParams(state)}`.replace(/%2C/g, ",");
      try { history.replaceState(null, "", text); } catch { /* as said above */ }
    }, 200),
    onChange: (act) => addEventListener("hashchange", () => act(address.read())),
  };

  // Give the reader a file: a Blob, or text of a data address.
  function save(name, content) {
    const url = typeof content === "string" ? content : URL.createObjectURL(content);
    const link = element("a", { href: url, download: name });
    link.click();
    if (typeof content !== "string") setTimeout(() => URL.revokeObjectURL(url), 60000);
  }

  // A row of a CSV file. What a text holds stays in its cell, and no spreadsheet reads it as a formula.
  function csvRow(cells) {
    const text = (cell) => (typeof cell === "string" && /^[=+\-@\t]/.test(cell) ? `'${cell}` : String(cell));
    const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
    return `${cells.map((cell) => quoted(text(cell))).join(",")}\r\n`;
  }

  // Until what was drawn so far is on the screen; of a tab in the background, at once.
  function seen() {
    return new Promise((done) => (document.hidden ? done() : requestAnimationFrame(() => setTimeout(done))));
  }

  let made = 0;
  const id = (stem) => `${stem}-${++made}`;

  // Controls. Each comes with `set(value)`, to follow a state that changed elsewhere, and calls `act` with its value.

  function choice(label, options, act) {
    const select = element("select", { id: id("choice") }, ...options.map(({ value, text }) => element("option", { value }, text)));
    select.addEventListener("change", () => act(select.value));
    const box = element("div", { class: "control" }, element("label", { for: select.id }, label), select);
    return { box, set: (value) => { select.value = value; } };
  }

  function segments(label, options, act) {
    const name = id("segments");
    const inputs = options.map(({ value }) => element("input", { type: "radio", name, id: id("segment"), value }));
    const parts = options.flatMap(({ text }, i) => [inputs[i], element("label", { for: inputs[i].id }, text)]);
    for (const input of inputs) input.addEventListener("click", () => act(input.value)); // also where it was chosen before
    const title = element("span", { class: "label", id: id("label") }, label);
    const group = element("div", { class: "segments", role: "radiogroup", "aria-labelledby": title.id }, ...parts);
    return {
      box: element("div", { class: "control" }, title, group),
      set: (value) => { for (const input of inputs) input.checked = input.value === String(value); },
    };
  }

  // `say` gives the text beside the slider for a value.
  function slider(label, { min, max, step }, say, act) {
    const input = element("input", { type: "range", id: id("slider"), min, max, step });
    const output = element("output", { for: input.id });
    const set = (value) => {
      input.value = value;
      output.textContent = say(Number(value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => { set(input.value); act(Number(input.value)); });
    return { box: element("div", { class: "control" }, element("label", { for: input.id }, label), input, output), set };
  }

  function button(text, act, attributes = {}) {
    const pressed = element("button", { type: "button", ...attributes }, text);
    pressed.addEventListener("click", act);
    return pressed;
  }

  // A table with headings for its columns and its rows; cells are texts or elements.
  function table(caption, head, rows, attributes = {}) {
    const cell = (tag, scope) => (content) => element(tag, scope ? { scope } : {}, content ?? "");
    return element("table", attributes,
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...head.map(cell("th", "col")))),
      element("tbody", {}, ...rows.map(([first, ...others]) => element("tr", {}, cell("th", "row")(first), ...others.map(cell("td"))))));
  }

  // A button that opens a dialog about something; escape, its button and a click beside it close it.
  function info(label, title, ...content) {
    const heading = element("h2", { id: id("dialog") }, title);
    const close = button("Close", () => dialog.close(), { class: "close" });
    const inside = element("div", { class: "inside" }, element("header", {}, heading, close), ...content);
    const dialog = element("dialog", { "aria-labelledby": heading.id }, inside);
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    const open = button("i", () => dialog.showModal(), { class: "info", "aria-label": label, title: label, "aria-haspopup": "dialog" });
    return { open, dialog };
  }

  // Provenance [[key, text], ...] behind such a button.
  function provenance(name, rows) {
    return info(`About ${name}`, name, table("Where it comes from", ["", ""], rows, { class: "provenance" }));
  }

  return {
    data, root, unpacked, element, plain, number, count, everyFrame, whenQuiet, theme, onTheme, layout, config, address,
    save, csvRow, seen, id, choice, segments, slider, button, table, info, provenance,
  };
})();
