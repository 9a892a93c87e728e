// What lies over a chart: it takes the pointer and the keys, and shows the marked step.
"use strict";

const conflictPointer = (() => {
  const { element } = page;
  const px = (value) => `${value}px`;

  // A chart with its glass. `label` says to a screen reader what it is and which keys it takes.
  function chart(label) {
    const plot = element("div", { "aria-hidden": "true" });
    const line = element("div", { class: "step-line" });
    const glass = element("div", { class: "glass", role: "application", tabindex: "0", "aria-label": label }, line);
    line.hidden = true;
    const box = element("div", { class: "chart" }, plot, glass);
    let view = null;

    const across = (step) => ((step - view.range[0]) / (view.range[1] - view.range[0])) * view.width;

    // Lay the glass over the plot of a size; steps lie in `range`.
    function lay({ left, right, top, height }, width, range) {
      view = { range, width: width - left - right, height };
      Object.assign(glass.style, { left: px(left), top: px(top), width: px(view.width), height: px(height) });
    }

    // Show the marked step, and what is to be seen at it: [{x, y, color}] with x a step and y a share of the height.
    function mark(step, dots = []) {
      line.hidden = step === null || across(step) < 0 || across(step) > view.width;
      for (const old of glass.querySelectorAll(".dot")) old.remove();
      if (step === null) return;
      line.style.left = px(across(step) - 0.75);
      for (const { x, y, color } of dots) {
        const place = `left:${px(across(x) - 6)};top:${px(y * view.height - 6)};background:${color}`;
        glass.append(element("div", { class: "dot", style: place }));
      }
    }

    // Where the pointer is: a step, not rounded, and a share of the height.
    function at(event) {
      const { left, top } = glass.getBoundingClientRect();
      const step = view.range[0] + ((event.clientX - left) / view.width) * (view.range[1] - view.range[0]);
      return { step, share: Math.max(0, Math.min(0.999999, (event.clientY - top) / view.height)) };
    }

    return { box, plot, glass, lay, mark, at };
  }

  // Keys: what they do by name; the page does not scroll by one that is used.
  function keys(glass, acts) {
    glass.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in acts)) return;
      event.preventDefault();
      acts[event.key]();
    });
  }

  return { chart, keys };
})();
