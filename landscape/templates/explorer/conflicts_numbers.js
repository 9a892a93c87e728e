// What was recorded: of each method, for a group of records and a pair of terms, its steps and cosines.
"use strict";

const conflictNumbers = (() => {
  const NAMES = ["mean", "low", "high", "negative", "fewest", "most", "whole", "halves", "known", "records"];
  const BRIEF = 32;
  const key = (terms) => JSON.stringify([...terms].sort());

  // A name in the middle of a sentence.
  function brief(name) {
    const letters = [...name];
    return letters.length > BRIEF ? `${letters.slice(0, BRIEF - 1).join("")}…` : name;
  }

  function readPair(pair, group) {
    const numbers = page.unpacked(pair.numbers).values;
    const layers = page.unpacked(pair.layers).values;
    const width = group.layers.length;
    return {
      ...group,
      terms: pair.terms,
      notes: pair.notes,
      measured: pair.measured,
      cosine: page.unpacked(pair.cosine).values,
      numbers: Object.fromEntries(NAMES.map((name, i) => [name, numbers[i]])),
      layer: (l) => Float64Array.from({ length: group.steps.length }, (_, i) => layers[i * width + l]),
    };
  }

  function readGroup({ pairs, step, ...group }) {
    const read = { ...group, steps: page.unpacked(step).values };
    return { text: group.text, pairs: new Map(pairs.map((pair) => [key(pair.terms), readPair(pair, read)])) };
  }

  const methods = page.data.methods.map((method, index) => ({
    ...method,
    index,
    label: method.name || "recording",
    brief: brief(method.name || "recording"),
    groups: new Map(method.groups.map((group) => [group.name, readGroup(group)])),
  }));

  // Every group that some method has, [{value, text}].
  const groups = [...new Map(methods.flatMap((m) => [...m.groups].map(([value, { text }]) => [value, { value, text }]))).values()];

  // Every pair of terms that some method has in a group, [{value, text, terms}].
  function pairs(group) {
    const found = new Map();
    for (const method of methods) {
      for (const [value, { terms }] of method.groups.get(group)?.pairs ?? []) {
        if (!found.has(value)) found.set(value, { value, text: terms.join(" and "), terms });
      }
    }
    return [...found.values()];
  }

  // What a method has of a group and pair; null if nothing.
  const of = (method, group, pair) => methods[method].groups.get(group)?.pairs.get(pair) ?? null;

  // The number of the record nearest to a step; -1 without records.
  function nearest(steps, step) {
    let best = -1;
    for (let i = 0; i < steps.length; i++) if (best < 0 || Math.abs(steps[i] - step) < Math.abs(steps[best] - step)) best = i;
    return best;
  }

  // Mean of those that are known, and which share of them is negative.
  function averages(values) {
    const known = values.filter((value) => !Number.isNaN(value));
    const share = (test) => known.filter(test).length / known.length;
    return { mean: known.reduce((sum, value) => sum + value, 0) / known.length, negative: share((v) => v < 0), known: known.length };
  }

  return { methods, groups, pairs, of, nearest, averages };
})();
