// What is shown: the choices of the reader, their defaults, and how they stand in the address.
"use strict";

const choices = (() => {
  const { data } = page;
  const terms = [...data.terms.map(({ name }) => name), ...(data.total ? [data.total.name] : [])];
  const epochs = fields.stops("epoch"), splits = fields.stops("split");

  // Far enough that no axis title is cut off, high enough to look into a minimum.
  const CAMERA = { eye: { x: 1.2, y: 1.5, z: 1.0 }, center: { x: 0, y: 0, z: -0.12 } };

  const defaults = {
    term: data.term,
    scale: null, // as the values need it
    colors: "shared",
    split: splits.includes("train") ? "train" : splits[0] ?? null,
    epoch: epochs.filter((epoch) => epoch !== null).at(-1) ?? null,
    alpha: 0.5,
    camera: CAMERA,
    at: [0, 0],
  };

  const named = (stops, text) => stops.find((stop) => (stop === null ? "none" : String(stop)) === text);
  const one = (known) => (text) => (known.includes(text) ? text : undefined);

  function numbers(text, ...lengths) {
    const found = text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
    return lengths.includes(found.length) && found.every(Number.isFinite) ? found : undefined;
  }

  function camera(text) {
    const found = numbers(text, 3, 6);
    if (!found || found.some((value) => Math.abs(value) > 20) || Math.hypot(...found.slice(0, 3)) < 0.05) return undefined;
    const [x, y, z, cx, cy, cz] = found.length === 6 ? found : [...found, CAMERA.center.x, CAMERA.center.y, CAMERA.center.z];
    return { eye: { x, y, z }, center: { x: cx, y: cy, z: cz } };
  }

  // How each is read from a text of the address: undefined where it makes no sense.
  const readers = {
    term: one(terms),
    scale: one(["linear", "log"]),
    colors: one(["shared", "own"]),
    split: (text) => named(splits, text),
    epoch: (text) => named(epochs, text),
    alpha: (text) => { const found = numbers(text, 1); return found && found[0] >= 0 && found[0] <= 1 ? found[0] : undefined; },
    camera,
    at: (text) => numbers(text, 2),
  };

  function read(texts) {
    const found = { ...defaults };
    for (const [key, reader] of Object.entries(readers)) {
      const value = key in texts ? reader(texts[key]) : undefined;
      if (value !== undefined) found[key] = value;
    }
    return found;
  }

  function written(state) {
    const short = (value) => String(Number(value.toFixed(3)));
    const { eye, center } = state.camera;
    const moved = state.camera !== CAMERA;
    const found = {
      term: state.term,
      scale: state.scale,
      colors: state.colors,
      split: splits.length ? state.split ?? "none" : null,
      epoch: epochs.length ? state.epoch ?? "none" : null,
      alpha: fields.isTotal(state.term) ? state.alpha : null,
      camera: moved ? [eye.x, eye.y, eye.z, center.x, center.y, center.z].map(short).join(",") : null,
      at: state.at === defaults.at ? null : state.at.map((value) => page.number(value, 6)).join(","),
    };
    return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== null));
  }

  return { terms, epochs, splits, defaults, CAMERA, read, written };
})();
