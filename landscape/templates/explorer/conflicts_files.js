// What can be taken away: the records as CSV, and the view as a picture.
"use strict";

const conflictFiles = (() => {
  const { methods } = conflictNumbers;

  // Every record of a pair of terms, whole and in each layer; to the last digit. Where there is no cosine it says NaN.
  function csv(pair) {
    const having = methods.flatMap((method) => [...method.groups].filter(([, { pairs }]) => pairs.has(pair)).map(([name, { text, pairs }]) => ({
      method, name: name || text, found: pairs.get(pair),
    })));
    const layers = [...new Set(having.flatMap(({ found }) => found.layers))];
    const head = ["method", "records", "first term", "second term", "step", "cosine", ...layers.map((layer) => `cosine in ${layer}`)];
    const rows = having.flatMap(({ method, name, found }) => {
      const columns = layers.map((layer) => found.layers.indexOf(layer)).map((l) => (l < 0 ? null : found.layer(l)));
      return Array.from(found.steps, (step, i) => [
        method.name, name, ...found.terms, step, found.cosine[i], ...columns.map((column) => (column === null ? "" : column[i])),
      ]);
    });
    return [head, ...rows].map(page.csvRow).join("");
  }

  async function picture(kind, view, title) {
    const { data, layout } = conflictCharts.together(view, title);
    const scale = kind === "png" ? 2 : 1;
    const url = await Plotly.toImage({ data, layout, config: page.config }, { format: kind, width: layout.width, height: layout.height, scale });
    page.save(`conflict.${kind}`, url);
  }

  return { saveCsv: (pair) => page.save("conflict.csv", new Blob([csv(pair)], { type: "text/csv" })), picture };
})();
