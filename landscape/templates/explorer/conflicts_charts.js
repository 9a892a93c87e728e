// The two charts: lines of the whole network, and a heat map of the layers of one method.
"use strict";

const conflictCharts = (() => {
  // Fixed; from dark to light through a grey at 0, so that the sign is seen in greyscale too: that of ls.plot.heatmap.
  const SCALE = ["#3d0011", "#8f1a22", "#cb6450", "#a8a8a8", "#86bae4", "#b5d8f2", "#e8f5fd"].map((color, i) => [i / 6, color]);
  const MARKS = 14;
  const HEADING = 44;
  const LEAST = 760;
  const CONTRAST = 4.5;

  function channels(color) {
    return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  }
  function luminance(color) {
    const [r, g, b] = channels(color).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  // A method's colour; on a dark page as much lighter as it takes to be seen.
  function visible(color) {
    const { dark, paper } = page.theme();
    if (!dark) return color;
    for (let white = 0; white < 1; white += 0.05) {
      const mixed = `#${channels(color).map((c) => Math.round(c + white * (255 - c)).toString(16).padStart(2, "0")).join("")}`;
      if ((luminance(mixed) + 0.05) / (luminance(paper) + 0.05) >= CONTRAST) return mixed;
    }
    return color;
  }

  function mark() {
    return getComputedStyle(document.documentElement).getPropertyValue("--mark").trim() || "#d6006c";
  }

  // Sizes of markers along a line: some marks, and every record that no line leads to.
  function markers(values, marks, size, shift = 0) {
    const every = Math.max(1, Math.ceil(values.length / marks));
    const absent = (i) => !(i >= 0 && i < values.length) || Number.isNaN(values[i]);
    return Array.from(values, (_, i) => (marks > 1 && i % every === Math.floor(shift * every)) || (absent(i - 1) && absent(i + 1)) ? size : 0);
  }

  // Series to draw: [{method, found}] of the methods that are shown, and the layer that is chosen, if any.
  function lineTraces(view) {
    const traces = view.shown.map(({ method, found }) => ({
      type: "scatter", mode: "lines+markers", name: page.plain(method.brief), x: found.steps, y: found.cosine,
      line: { color: visible(method.color), dash: method.dash, width: 2 },
      marker: {
        color: visible(method.color), symbol: method.symbol, size: markers(found.cosine, MARKS, 7, method.index / 6), opacity: 1,
        line: { width: 0 },
      },
    }));
    if (view.layer === null) return traces;
    const values = view.found.layer(view.layer);
    const broad = {  // below the others, broad and faint: told apart without its colour
      type: "scatter", mode: "lines+markers", name: page.plain(view.layerLabel), x: view.found.steps, y: values, opacity: 0.55,
      line: { color: mark(), width: 4 }, marker: { color: mark(), size: markers(values, 1, 7), opacity: 1, line: { width: 0 } },
    };
    return [broad, ...traces];
  }

  function heatTraces(view) {
    const { found } = view;
    const rows = found.layers.map((_, l) => found.layer(l));
    const undefinedCells = conflictAxes.struck(rows, conflictAxes.edges(found.steps));
    return [
      {
        type: "heatmap", x: found.steps, y: rows.map((_, l) => l), z: rows, zmin: -1, zmax: 1, colorscale: SCALE, showscale: false,
        hoverinfo: "skip",
      },
      { type: "scatter", mode: "lines", ...undefinedCells, line: { color: page.theme().quiet, width: 1 }, showlegend: false },
    ];
  }

  const axis = (more) => ({ gridcolor: page.theme().rule, linecolor: page.theme().quiet, zeroline: false, fixedrange: true, ...more });
  const margin = ({ left, right, top, bottom }) => ({ l: left, r: right, t: top, b: bottom, autoexpand: false });

  function lineAxes(view) {
    const { quiet } = page.theme();
    return {
      xaxis: axis({ range: view.range, ...view.ticks, title: { text: view.unit, standoff: 6 }, showline: true }),
      yaxis: axis({ range: view.upwards, title: { text: "cosine", standoff: 4 } }),
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: quiet, width: 1 }, layer: "below" }],
    };
  }

  function heatAxes(view) {
    const { found, layer, sizes } = view;
    const { tickvals, ticktext } = conflictAxes.written(found.layers, sizes.layers);
    const row = { type: "rect", xref: "paper", x0: 0, x1: 1, y0: layer - 0.5, y1: layer + 0.5, line: { color: mark(), width: 2 } };
    return {
      xaxis: axis({ range: view.range, ...view.ticks, title: { text: view.unit, standoff: 6 }, showgrid: false }),
      yaxis: axis({
        range: [found.layers.length - 0.5, -0.5], tickvals, ticktext, showgrid: false, ticks: "outside", ticklen: 4,
        tickcolor: "rgba(0,0,0,0)",
      }),
      shapes: layer === null ? [] : [row],
    };
  }

  function draw(place, traces, axes, size, width) {
    const layout = page.layout({ ...axes, width, height: size.top + size.height + size.bottom, margin: margin(size) });
    return Plotly.react(place, traces, layout, { ...page.config, responsive: false, staticPlot: true });
  }

  // What the colours mean, for the page.
  function key() {
    const stops = SCALE.map(([at, color]) => `${color} ${100 * at}%`).join(",");
    const strip = page.element("div", { class: "strip", style: `background:linear-gradient(to right,${stops})` });
    const ends = page.element("div", { class: "ends quiet small" }, ...["−1", "0", "1"].map((text) => page.element("span", {}, text)));
    const said = "Colours: dark red is a cosine of -1, grey 0, light blue 1";
    return page.element("div", { class: "key", role: "img", "aria-label": said }, strip, ends);
  }

  // One figure of both, for a file; of a narrow page as wide as it takes to be read.
  function together(of, title) {
    const view = { ...of, sizes: conflictAxes.sizes(Math.max(LEAST, of.sizes.width), of.found.layers) };
    const { lines, layers, width } = view.sizes;
    const top = 48 + 19 * (view.shown.length + (view.layer === null ? 0 : 1));  // of the title and the legend
    const height = top + lines.height + 52 + HEADING + layers.height + layers.bottom;
    const up = (from, size) => [1 - (from + size - top) / (height - top - layers.bottom), 1 - (from - top) / (height - top - layers.bottom)];
    const [above, below] = [lineAxes(view), heatAxes(view)];
    const second = (shape) => ({ ...shape, yref: "y2", xref: shape.xref });
    const [heat, struck] = heatTraces(view).map((trace) => ({ ...trace, xaxis: "x2", yaxis: "y2" }));
    const place = up(top + lines.height + 52 + HEADING, layers.height);
    heat.showscale = true;
    heat.colorbar = {
      orientation: "h", x: 1, xanchor: "right", y: place[1], yanchor: "bottom", lenmode: "pixels", len: Math.min(200, width / 2),
      thickness: 10, outlinewidth: 0, tickvals: [-1, 0, 1], ypad: 2, xpad: 0,
    };
    const heading = {
      text: page.plain(`${view.parts} of ${view.method.brief}`), showarrow: false,
      xref: "paper", yref: "paper", x: 0, y: place[1], xanchor: "left", yanchor: "bottom",
    };
    const layout = page.layout({
      width, height, margin: { l: lines.left, r: lines.right, t: top, b: layers.bottom, autoexpand: false }, paper_bgcolor: page.theme().paper,
      title: {
        text: page.plain(title), font: { size: 13 }, pad: { t: 12 },
        x: 0, xref: "paper", xanchor: "left", y: 1, yref: "container", yanchor: "top",
      },
      showlegend: true, legend: { x: 0, y: 1, itemsizing: "constant", yanchor: "bottom", xanchor: "left", bgcolor: "rgba(0,0,0,0)" },
      xaxis: { ...above.xaxis, anchor: "y" }, yaxis: { ...above.yaxis, domain: up(top, lines.height) },
      xaxis2: { ...below.xaxis, anchor: "y2" }, yaxis2: { ...below.yaxis, domain: place },
      shapes: [...above.shapes, ...below.shapes.map(second)], annotations: [heading],
    });
    return { data: [...lineTraces(view), heat, struck], layout };
  }

  return {
    visible, mark, key, together,
    lines: (place, view) => draw(place, lineTraces(view), lineAxes(view), view.sizes.lines, view.sizes.width),
    layers: (place, view) => draw(place, heatTraces(view), heatAxes(view), view.sizes.layers, view.sizes.width),
  };
})();
