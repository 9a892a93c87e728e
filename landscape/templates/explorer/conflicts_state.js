// What is looked at: it stands in the address, and everything on the page follows it.
"use strict";

const conflictState = (() => {
  const { methods, groups, pairs, of, nearest } = conflictNumbers;
  const everyMethod = methods.map((method) => method.index);
  const whole = (text) => (/^-?\d+$/.test(text ?? "") ? Number(text) : NaN);

  // A state in which everything exists, from one in which it may not.
  function sound({ group, pair, method, shown, layer, step }) {
    const known = groups.some(({ value }) => value === group) ? group : groups[0].value;
    const offered = pairs(known);
    const chosen = offered.some(({ value }) => value === pair) ? pair : offered[0].value;
    const having = everyMethod.filter((index) => of(index, known, chosen));
    const drawn = having.includes(method) ? method : having[0];
    const found = of(drawn, known, chosen);
    return {
      group: known,
      pair: chosen,
      method: drawn,
      shown: everyMethod.filter((index) => shown.includes(index)),
      layer: found.layers[layer] === undefined ? null : layer,
      step: recorded(having.map((index) => of(index, known, chosen).steps), step),
    };
  }

  // The step nearest to one at which something was recorded.
  function recorded(every, step) {
    const near = every.filter((steps) => steps.length).map((steps) => steps[nearest(steps, step)]);
    return Number.isFinite(step) && near.length ? near[nearest(near, step)] : null;
  }

  // A state as texts, by names that a reader understands; what is as at first is left out.
  function written({ group, pair, method, shown, layer, step }) {
    const place = pairs(group).findIndex(({ value }) => value === pair);
    const texts = { of: group, pair: place || "", method: method || "", layer: layer ?? "", step: step ?? "" };
    if (shown.length < everyMethod.length) texts.shown = shown.join(",") || "none";
    return Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== "").map(([name, text]) => [name, String(text)]));
  }

  function read({ of: group = "", pair, method, shown, layer, step }) {
    const known = groups.some(({ value }) => value === group) ? group : groups[0].value;
    return sound({
      group,
      pair: pairs(known)[whole(pair) || 0]?.value,
      method: whole(method) || 0,
      shown: shown === undefined ? everyMethod : shown.split(",").map(whole),
      layer: whole(layer),
      step: whole(step),
    });
  }

  let state = read(page.address.read());
  let follow = () => {};

  function become(next, redraw) {
    state = next;
    follow(state, redraw);
  }

  // Change some of the state; a layer is kept where the methods have it by the same name.
  function change(part) {
    const before = of(state.method, state.group, state.pair);
    const name = state.layer === null ? null : before.layers[state.layer];
    const next = sound({ ...state, ...part });
    if (!("layer" in part) && name !== null) {
      const place = of(next.method, next.group, next.pair).layers.indexOf(name);
      next.layer = place < 0 ? null : place;
    }
    const redraw = Object.keys(part).some((key) => key !== "step");
    become(next, redraw);
    page.address.write(written(next));
  }

  // The next step in a direction among those given, from the marked one; the first or last where none is marked.
  function along(steps, by) {
    if (!steps.length) return state.step;
    if (state.step === null) return steps[by > 0 ? 0 : steps.length - 1];
    const at = nearest(steps, state.step);
    return steps[Math.max(0, Math.min(steps.length - 1, at + by))];
  }

  page.address.onChange((texts) => become(read(texts), true));
  return { get: () => state, change, along, onChange: (act) => { follow = act; } };
})();
