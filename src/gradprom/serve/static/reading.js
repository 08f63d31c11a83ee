// What the recognizer reads, as tables: a row for each class, a column for each picture.

import { make } from "./page.js";

const keysInOrder = ["clean", "before", "after"];
const shown = 8;

function percent(value) {
  return `${(100 * value).toFixed(value < 0.0995 && value > 0 ? 2 : 1)} %`;
}

function table(caption, names, columns, rows, swatches) {
  const keys = Object.keys(columns);
  const tops = Object.fromEntries(keys.map((key) => [key, Math.max(...Object.values(columns[key]))]));
  const head = make("tr", {}, make("th", { scope: "col" }, "Class"));
  for (const key of keys) head.append(make("th", { scope: "col" }, names[key]));
  const body = make("tbody");
  for (const name of rows) {
    const label = make("th", { scope: "row" });
    if (swatches?.[name]) {
      const swatch = make("span", { className: "swatch" });
      swatch.style.background = swatches[name];
      label.append(swatch);
    }
    label.append(name);
    const row = make("tr", {}, label);
    for (const key of keys) {
      const value = columns[key][name];
      const fill = make("b");
      fill.style.width = `${100 * value}%`;
      const cell = make("td", {}, percent(value), make("i", { ariaHidden: "true" }, fill));
      cell.classList.toggle("top", value === tops[key] && !swatches);
      row.append(cell);
    }
    body.append(row);
  }
  return make("table", {}, make("caption", {}, caption), make("thead", {}, head), body);
}

function maskColours(reader, colours) {
  return Object.fromEntries(
    reader.maskClasses.slice(1).map((name, index) => [name, colours[index % colours.length]]),
  );
}

export function tables(view, reader, colours) {
  const keys = keysInOrder.filter((key) => key in view.readings);
  const names = { clean: "Original", before: view.sigma > 0 ? "Noisy" : "Input", after: "Enhanced" };
  const found = [];
  const column = (field) => Object.fromEntries(keys.map((key) => [key, view.readings[key][field]]));
  if (keys.length > 0 && view.readings[keys[0]].probabilities) {
    const columns = column("probabilities");
    const highest = (name) => Math.max(...keys.map((key) => columns[key][name]));
    const ranked = [...reader.classes].sort((one, other) => highest(other) - highest(one));
    const rows = reader.classes.filter((name) => ranked.indexOf(name) < shown);
    const left = reader.classes.length - rows.length;
    const caption = left > 0 ? `Probability, the likeliest ${shown} of ${reader.classes.length}` : "Probability";
    found.push(table(caption, names, columns, rows));
  }
  if (keys.length > 0 && view.readings[keys[0]].shares) {
    found.push(table("Share of the picture", names, column("shares"), reader.maskClasses, maskColours(reader, colours)));
  }
  return found;
}
