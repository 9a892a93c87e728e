// Colours, heights and their ticks: one scale for a bar of colours, the surfaces and the lines on them.
"use strict";

const scales = (() => {
  const VIRIDIS = [
    "#440154", "#48186a", "#472d7b", "#424086", "#3b528b", "#33638d", "#2c728e", "#26828e", "#21918c", "#1fa088", "#28ae80",
    "#3fbc73", "#5ec962", "#84d44b", "#addc30", "#d8e219", "#fde725",
  ];
  const colors = VIRIDIS.map((color, i) => [i / (VIRIDIS.length - 1), color]);
  const LINES = 10;

  // 1, 2 or 5 times a power of ten, at most `n` of which fit into a span.
  function step(span, n) {
    const power = 10 ** Math.floor(Math.log10(span / n));
    return power * ([1, 2, 5, 10].find((factor) => span / (factor * power) <= n) ?? 10);
  }

  // Round values between two, with their texts: about `n`.
  function ticks([low, high], log, n) {
    const found = log ? roundFactors(low, high, n) : [];
    return (found.length > 1 ? found : roundSteps(low, high, n)).map((value) => [value, text(value)]);
  }

  // 1, 2 and 5 times the powers of ten, or fewer of them.
  function roundFactors(low, high, n) {
    const powers = [];
    for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k++) powers.push(k);
    const each = Math.ceil(powers.length / n);
    const ways = [[1, [1, 2, 5]], [1, [1, 3]], [1, [1]], [each, [1]]].map(([every, factors]) =>
      powers.filter((k) => k % every === 0).flatMap((k) => factors.map((factor) => Number(`${factor}e${k}`)))
        .filter((value) => value >= low && value <= high));
    return ways.find((values) => values.length <= n) ?? ways.at(-1);
  }

  function roundSteps(low, high, n) {
    const size = step(high - low || Math.abs(high) || 1, n);
    const found = [];
    for (let k = Math.ceil(low / size); k * size <= high && found.length <= 2 * n; k++) found.push(k * size);
    return found;
  }

  function text(value) {
    const size = Math.abs(value);
    if (value !== 0 && (size >= 1e5 || size < 1e-3)) return Number(value.toPrecision(3)).toExponential().replace("e+", "e");
    return page.number(value, 4);
  }

  // A scale over a range of values: `of` maps a value to what is drawn, its logarithm on a log scale; `lines` are evenly
  // spaced in that, and `every` says their distance.
  function scale(range, log) {
    const of = log ? Math.log10 : (value) => value;
    const [low, high] = range.map(of);
    const wide = high > low ? high - low : Math.abs(high) || 1;
    const size = log && wide > LINES ? Math.ceil(wide / LINES) : step(wide, LINES);
    const lines = { start: Math.ceil(low / size) * size, end: Math.floor(high / size) * size, size };
    const every = log ? `factor of ${page.number(10 ** size, 3)}` : page.number(size, 3);
    const margin = high > low ? 0 : wide / 2;
    return { range, log, of, low: low - margin, high: high + margin, lines, every, ticks: (n) => ticks(range, log, n) };
  }

  const svg = (tag, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  // A horizontal bar of the colours with ticks under it, as an SVG element.
  function bar(of, width) {
    const { ink, font } = page.theme();
    const id = page.id("colors");
    const stops = colors.map(([offset, color]) => svg("stop", { offset, "stop-color": color }));
    const inner = width - 40;
    const place = (value) => 20 + (inner * (of.of(value) - of.low)) / (of.high - of.low);
    const said = `Colours from ${text(of.range[0])} to ${text(of.range[1])}${of.log ? ", log scale" : ""}`;
    const marks = of.ticks(Math.max(2, Math.floor(width / 58))).flatMap(([value, label]) => [
      svg("line", { x1: place(value), x2: place(value), y1: 13, y2: 17, stroke: ink }),
      svg("text", { x: place(value), y: 29, "text-anchor": "middle", "font-size": 11, "font-family": font, fill: ink }, label),
    ]);
    return svg("svg", { width, height: 34, viewBox: `0 0 ${width} 34`, role: "img", "aria-label": said, class: "colorbar" },
      svg("defs", {}, svg("linearGradient", { id }, ...stops)),
      svg("rect", { x: 20, y: 1, width: inner, height: 12, fill: `url(#${id})` }), ...marks);
  }

  return { colors, scale, bar, svg, text };
})();
