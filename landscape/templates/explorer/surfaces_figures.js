// What plotly draws of a surface: a scene, the plane from above, or curves. Nothing here knows the page.
"use strict";

const figures = (() => {
  // Room for ticks and titles around a chart; the cross-hair of panels.js lies on what it leaves.
  const MARGIN = { l: 56, r: 14, t: 14, b: 50 };
  // Shading by slope alone: highlights and shadows would be read as values.
  const LIGHT = { ambient: 0.85, diffuse: 0.25, specular: 0, fresnel: 0 };
  // More single marks than these would cover what they are to tell apart.
  const MARKS = 600;

  function rows(values, { rows: n, columns }, of = (value) => value) {
    return Array.from({ length: n }, (_, i) => Array.from(values.subarray(i * columns, (i + 1) * columns), of));
  }

  function axis(title, more = {}) {
    const { ink, rule, quiet } = page.theme();
    return {
      title: { text: page.plain(title), font: { size: 12, color: ink }, standoff: 6 },
      tickfont: { size: 11, color: ink }, gridcolor: rule, linecolor: quiet, zeroline: false, ...more,
    };
  }

  function scene(surface, values, scale, camera) {
    const grid = fields.grid(surface);
    const z = rows(values, grid, scale.of);
    const ticks = scale.ticks(5);
    const pad = 0.02 * (scale.high - scale.low);
    const flat = { showbackground: false, showspikes: false, nticks: 5 };
    const layout = page.layout({
      margin: { l: 0, r: 0, t: 0, b: 0 },
      hovermode: "closest",
      scene: {
        xaxis: axis(surface.labels.x, { ...flat, range: span(grid.x) }),
        yaxis: axis(surface.labels.y, { ...flat, range: span(grid.y) }),
        zaxis: axis("", {
          ...flat, range: [scale.low - pad, scale.high + pad], tickmode: "array",
          tickvals: ticks.map(([value]) => scale.of(value)), ticktext: ticks.map(([, text]) => text),
        }),
        aspectmode: "manual", aspectratio: { x: 1, y: 1, z: 0.8 }, dragmode: "turntable",
        camera: { up: { x: 0, y: 0, z: 1 }, ...camera },
      },
    });
    return { data: [sheet(grid, z, scale), ...path(surface, grid, values, scale)], layout };
  }

  // An axis from its first to its last coordinate; a single one gets some room.
  const span = (coordinates) => (coordinates.length > 1 ? [coordinates[0], coordinates.at(-1)] : fields.ends(coordinates));

  function sheet(grid, z, scale) {
    const shades = { colorscale: scales.colors, cmin: scale.low, cmax: scale.high, showscale: false };
    if (grid.rows < 2 || grid.columns < 2) {
      const flat = (of) => z.flatMap((row, i) => row.map((height, j) => of(height, i, j)));
      const heights = flat((height) => height);
      return {
        type: "scatter3d", mode: "markers", hoverinfo: "none", x: flat((_, i, j) => grid.x[j]), y: flat((_, i) => grid.y[i]),
        z: heights, marker: { size: 5, color: heights, ...shades },
      };
    }
    // Around holes plotly's lines have ends that are nowhere: a second for each picture where the processor draws it.
    const whole = z.every((row) => row.every((height) => !Number.isNaN(height)));
    const lines = { show: whole, ...scale.lines, color: "rgba(255,255,255,0.55)", width: 1, usecolormap: false, highlight: false };
    return {
      type: "surface", x: Array.from(grid.x), y: Array.from(grid.y), z, ...shades, lighting: LIGHT, hoverinfo: "none",
      contours: { x: { highlight: false }, y: { highlight: false }, z: lines },
    };
  }

  // Places of note: the path of a training run, and single points with their names, a little above the surface. Where
  // that has a hole they have no height, and are left out.
  function path(surface, grid, values, scale) {
    const { ink, paper } = page.theme();
    const lift = 0.01 * (scale.high - scale.low);
    return places(surface).map(({ name, x, y }) => {
      const heights = x.map((px, i) => scale.of(fields.height(grid, values, px, y[i])) + lift);
      const known = (of) => of.filter((_, i) => Number.isFinite(heights[i]));
      return {
        type: "scatter3d", name: page.plain(name), mode: x.length > 1 ? "lines+markers" : "markers+text",
        x: known(x), y: known(y), z: known(heights), text: x.length > 1 ? undefined : known([angled(name)]),
        textfont: { size: 11, color: ink }, hoverinfo: "skip",
        line: { color: ink, width: 4 }, marker: { size: 3.5, color: paper, line: { color: ink, width: 1.5 } },
      };
    });
  }

  // Texts in 3-D are read as HTML and its escapes are not: other signs stand for its brackets.
  const angled = (text) => text.replace(/</g, "\u2039").replace(/>/g, "\u203a");

  function places(surface) {
    return Object.entries(surface.points).map(([name, packed]) => {
      const points = fields.array(packed);
      return { name, x: Array.from(points.filter((_, i) => i % 2 === 0)), y: Array.from(points.filter((_, i) => i % 2 === 1)) };
    });
  }

  function plane(surface, values, scale) {
    const grid = fields.grid(surface);
    const { quiet, rule, tint } = page.theme();
    const z = rows(values, grid, scale.of);
    const x = Array.from(grid.x), y = Array.from(grid.y);
    const lines = (color, width) => ({
      type: "contour", x, y, z, showscale: false, hoverinfo: "skip", line: { color, width },
      contours: { coloring: "none", ...scale.lines },
    });
    const holes = rows(values.map((value, i) => (Number.isNaN(value) ? Number(grid.status[i] !== fields.PENDING) : NaN)), grid);
    const layout = page.layout({
      margin: MARGIN, hovermode: false, dragmode: false,
      xaxis: axis(surface.labels.x, { range: fields.ends(grid.x), fixedrange: true, showgrid: false, nticks: 6, ticks: "outside", ticklen: 4 }),
      yaxis: axis(surface.labels.y, { range: fields.ends(grid.y), fixedrange: true, showgrid: false, nticks: 6, ticks: "outside", ticklen: 4 }),
    });
    const data = [
      { type: "heatmap", x, y, z, colorscale: scales.colors, zmin: scale.low, zmax: scale.high, showscale: false, hoverinfo: "skip" },
      { type: "heatmap", x, y, z: holes, zmin: 0, zmax: 1, colorscale: [[0, tint], [1, rule]], showscale: false, hoverinfo: "skip" },
      ...(grid.rows > 1 && grid.columns > 1 ? [lines("rgba(0,0,0,0.4)", 2.2), lines("rgba(255,255,255,0.9)", 1)] : []),
      ...missing(surface, grid, values, quiet),
      { type: "scatter", mode: "markers", x: [0], y: [0], hoverinfo: "skip", marker: { symbol: "cross-thin", size: 10, line: { color: "#000", width: 3.5 } } },
      { type: "scatter", mode: "markers", x: [0], y: [0], hoverinfo: "skip", marker: { symbol: "cross-thin", size: 9, line: { color: "#fff", width: 1.5 } } },
      ...trail(surface, grid),
    ];
    return { data, layout };
  }

  // A stroke in a cell that is pending, a cross in one that is not finite.
  function missing(surface, grid, values, color) {
    const cells = { "line-ne": [], "x-thin": [] };
    values.forEach((value, i) => { if (Number.isNaN(value)) cells[grid.status[i] === fields.PENDING ? "line-ne" : "x-thin"].push(i); });
    return Object.entries(cells).filter(([, found]) => found.length && found.length <= MARKS).map(([symbol, found]) => ({
      type: "scatter", mode: "markers", hoverinfo: "skip", x: found.map((i) => grid.x[i % grid.columns]),
      y: found.map((i) => grid.y[Math.floor(i / grid.columns)]), marker: { symbol, size: 6, line: { color, width: 1.2 } },
    }));
  }

  // A name stands on the side of its point where there is room.
  const middle = (axis) => (axis[0] + axis.at(-1)) / 2;

  function trail(surface, grid) {
    return places(surface).flatMap(({ name, x, y }) => [
      { type: "scatter", mode: "lines", x, y, hoverinfo: "skip", line: { color: "#000", width: 3.5 } },
      {
        type: "scatter", name: page.plain(name), mode: x.length > 1 ? "lines+markers" : "markers+text", x, y, hoverinfo: "skip",
        text: x.length > 1 ? undefined : [page.plain(name)], textposition: `${y[0] > middle(grid.y) ? "bottom" : "top"} ${x[0] > middle(grid.x) ? "left" : "right"}`, textfont: { color: "#fff", shadow: "auto" },
        line: { color: "#fff", width: 1.5 }, marker: { size: 6, color: "#fff", line: { color: "#000", width: 1.2 } },
      },
    ]);
  }

  // Each line of a bundle faint, and their mean; of a single line the 95 % interval.
  function curves(surface, values, half, scale) {
    const grid = fields.grid(surface);
    const { link } = page.theme();
    const x = Array.from(grid.x), lines = rows(values, grid);
    const common = { type: "scatter", mode: "lines", x, hoverinfo: "skip" };
    const band = (sign) => lines[0].map((value, i) => (sign < 0 && scale.log ? Math.max(value - half[i], value / 1e3) : value + sign * half[i]));
    const around = lines.length > 1
      ? lines.map((y) => ({ ...common, y, line: { color: link, width: 1 }, opacity: 0.25 }))
      : [{ ...common, y: band(-1), line: { width: 0 } }, { ...common, y: band(1), line: { width: 0 }, fill: "tonexty", fillcolor: `${link}38` }];
    const pad = 0.04 * (scale.high - scale.low);
    const ticks = scale.ticks(6);
    const layout = page.layout({
      margin: MARGIN, hovermode: false, dragmode: false,
      xaxis: axis(surface.labels.x, { range: span(grid.x), fixedrange: true, nticks: 7 }),
      yaxis: axis("", {
        type: scale.log ? "log" : "linear", range: [scale.low - pad, scale.high + pad], fixedrange: true,
        tickmode: "array", tickvals: ticks.map(([value]) => value), ticktext: ticks.map(([, text]) => text),
      }),
    });
    return { data: [...around, { ...common, y: mean(lines), mode: "lines+markers", line: { color: link, width: 2.5 }, marker: { size: 3.5 } }], layout };
  }

  // Open where a line has no value: a mean of the others would look flatter than the surface is.
  function mean(lines) {
    return lines[0].map((_, i) => lines.reduce((sum, line) => sum + line[i], 0) / lines.length);
  }

  return { MARGIN, scene, plane, curves };
})();
