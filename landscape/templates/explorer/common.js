// What every page shares: reading its data, making elements, colours of the theme, the state in the address.
"use strict";

const page = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  // An array of landscape.explorer.arrays: {shape, values}, its values a Float64Array in the order of rows.
  function unpacked(packed) {
    const bytes = Uint8Array.from(atob(packed.f64), (letter) => letter.charCodeAt(0));
    return { shape: packed.shape, values: new Float64Array(bytes.buffer) };
  }

  // An element with attributes and children; texts are never read as HTML.
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  return { data, unpacked, element };
})();
