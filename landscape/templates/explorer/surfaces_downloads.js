// What a reader takes away: the view as a picture, and the data of the whole page as a table.
"use strict";

const downloads = (() => {
  const lines = page.data.kind === "lines";
  const WIDTH = 420, GAP = 16, TITLE = 28, BAR = 44;
  const CHARTS = { scene: 380, flat: lines ? 320 : 420 };
  const STATUS = ["pending", "done", "not finite"];

  function words(text, x, y, size, more = {}) {
    const { ink, font } = page.theme();
    return scales.svg("text", { x, y, "font-size": size, "font-family": font, fill: ink, ...more }, text);
  }

  function moved(svg, x, y) {
    svg.setAttribute("x", x);
    svg.setAttribute("y", y);
    return svg;
  }

  // A chart as an element of a picture: of lines as such, or a scene as it looks, in twice its size.
  async function chart(plot, kind) {
    const size = { width: WIDTH, height: CHARTS[kind] };
    if (kind === "flat") {
      const url = await Plotly.toImage(plot, { format: "svg", ...size });
      const text = decodeURIComponent(url.slice(url.indexOf(",") + 1));
      return document.importNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true);
    }
    return scales.svg("image", { ...size, href: await Plotly.toImage(plot, { format: "png", scale: 2, ...size }) });
  }

  // All panels in rows of three, each its title and charts one above the other; a bar of colours under all, or under each.
  async function picture(views, { kinds, shared, label }) {
    const own = lines ? 0 : shared ? 0 : BAR;
    const tall = TITLE + kinds.reduce((sum, kind) => sum + CHARTS[kind], 0) + own;
    const columns = Math.min(views.length, 3);
    const width = GAP + columns * (WIDTH + GAP);
    const bottom = GAP + Math.ceil(views.length / columns) * (tall + GAP);
    const height = bottom + BAR;
    const frame = scales.svg("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` },
      scales.svg("rect", { width, height, fill: page.theme().paper }));
    for (const [i, { panel, scale, method, why }] of views.entries()) {
      const x = GAP + (i % columns) * (WIDTH + GAP);
      let y = GAP + Math.floor(i / columns) * (tall + GAP);
      frame.append(words(method.name.length > 52 ? `${method.name.slice(0, 51)}…` : method.name, x + 4, y + 18, 14, { "font-weight": 600 }));
      y += TITLE;
      if (!panel.surface) frame.append(words(why, x + 4, y + 18, 12));
      for (const kind of panel.surface ? kinds : []) {
        frame.append(moved(await chart(panel[kind], kind), x, y));
        y += CHARTS[kind];
      }
      if (own && panel.surface) frame.append(moved(scales.bar(scale, WIDTH), x, y));
    }
    const scale = views.find(({ panel }) => panel.surface)?.scale;
    if (shared && scale && !lines) frame.append(moved(scales.bar(scale, Math.min(width, 560)), Math.max(0, width - 560) / 2, bottom - 6));
    frame.append(words(label, width / 2, height - 6, 11, { "text-anchor": "middle" }));
    return frame;
  }

  const text = (svg) => new XMLSerializer().serializeToString(svg);

  async function asSvg(views, options) {
    const frame = await picture(views, { kinds: ["flat"], ...options });
    page.save(`${options.name}.svg`, new Blob([text(frame)], { type: "image/svg+xml" }));
  }

  async function asPng(views, options) {
    const frame = await picture(views, { kinds: lines ? ["flat"] : ["scene", "flat"], ...options });
    const image = new Image();
    image.src = `data:image/svg+xml,${encodeURIComponent(text(frame))}`;
    await image.decode();
    const canvas = page.element("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => page.save(`${options.name}.png`, blob), "image/png");
  }

  // A row for each cell of every method, epoch and split; numbers as they were measured.
  function asCsv() {
    const terms = page.data.terms.map(({ name }) => name);
    const head = ["method", "epoch", "split", lines ? "direction" : "y", "x", "status", ...terms.flatMap((term) => [term, `${term}: 95 % half width`])];
    const parts = [page.csvRow(head)];
    for (const { name, surfaces } of fields.methods) {
      for (const surface of surfaces) parts.push(ofSurface([name, surface.epoch ?? "", surface.split ?? ""], surface, terms));
    }
    page.save("surfaces.csv", new Blob(parts, { type: "text/csv;charset=utf-8" }));
  }

  function ofSurface(first, surface, terms) {
    const { x, y, columns, status } = fields.grid(surface);
    const arrays = terms.map((term) => (fields.has(surface, term) ? fields.field(surface, { term }) : null));
    const rows = Array.from(status, (known, i) => {
      const line = Math.floor(i / columns);
      const cells = arrays.flatMap((field) => (field ? [field.values[i], field.half[i]] : ["", ""]));
      return page.csvRow([...first, y ? y[line] : line, x[i % columns], STATUS[known], ...cells]);
    });
    return rows.join("");
  }

  return { asSvg, asPng, asCsv };
})();
