// What the viewer shows of a file: which pictures, what lies over them, and what is to be said of them.

import * as api from "./api.js";
import { $, number, put } from "./page.js";
import { tables } from "./reading.js";
import { Viewer } from "./viewer.js";

const viewer = new Viewer($("stage"), $("divider"), (scale) => {
  $("zoom-level").textContent = scale === null ? "–" : `${scale < 0.1 ? (100 * scale).toFixed(1) : Math.round(100 * scale)} %`;
});
let shown = ""; // as text, to compare

export function listenToViewer(onChange) {
  for (const radio of document.querySelectorAll('input[name="mode"]')) radio.addEventListener("change", onChange);
  $("left").addEventListener("change", onChange);
  $("overlay").addEventListener("change", onChange);
  $("zoom-in").addEventListener("click", () => viewer.zoomIn());
  $("zoom-out").addEventListener("click", () => viewer.zoomOut());
  $("zoom-fit").addEventListener("click", () => viewer.fit());
}

function overlaysOf(view, reader) {
  const options = [["", "none"]];
  if (view.pictures.includes("mask-after")) options.push(["mask", "regions found"]);
  const tasks = (reader?.tasks ?? []).filter((task) => view.pictures.includes(`${task}-after`));
  for (const task of tasks) options.push([task, tasks.length > 1 ? `where it looks: ${task}` : "where it looks"]);
  return options;
}

function offer(options) {
  const overlay = $("overlay");
  const key = JSON.stringify(options);
  if (overlay.dataset.key === key) return;
  overlay.dataset.key = key;
  const chosen = overlay.value;
  overlay.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  overlay.value = options.some(([value]) => value === chosen) ? chosen : "";
}

// resolves when the pictures are there
export async function renderView(file, about) {
  const view = file?.view ?? null;
  const mode = document.querySelector('input[name="mode"]:checked').value;
  $("left-field").hidden = view === null || view.sigma === 0 || mode === "difference";
  if (view !== null) offer(overlaysOf(view, about.reader));
  $("overlay-field").hidden = view === null || $("overlay").length < 2 || mode === "difference";
  const key = JSON.stringify([file?.id, view?.number, mode, $("left").value, $("overlay").value]);
  if (key === shown) return;
  shown = key;
  $("reading").hidden = view === null || Object.keys(view.readings).length === 0;
  $("scale").hidden = view === null || mode !== "difference";
  for (const id of ["left-tag", "right-tag", "note", "psnr"]) $(id).hidden = true;
  if (view === null) {
    viewer.clear();
    return;
  }
  describe(view, about);
  viewer.setMode(mode);
  const address = (name) => (view.pictures.includes(name) ? api.picture(file, name) : null);
  const common = { width: view.width * view.aspect, height: view.height };
  if (mode === "difference") {
    put("left-tag", "Difference");
    const label = `What the model changed in ${file.name}: orange is brighter, blue is darker`;
    await viewer.show({ ...common, left: address("difference"), labels: { left: label, right: "" } });
    return;
  }
  const left = view.sigma === 0 ? "before" : $("left").value;
  const name = view.sigma === 0 ? "Input" : left === "clean" ? "Original" : "Noisy input";
  const over = (which) => ($("overlay").value === "" ? null : address(`${$("overlay").value}-${which}`));
  put("left-tag", name);
  put("right-tag", "Enhanced");
  await viewer.show({
    ...common,
    left: address(left),
    right: address("after"),
    leftOver: over(left),
    rightOver: over("after"),
    labels: { left: `${name}: ${file.name}`, right: `Enhanced: ${file.name}` },
  });
}

function describe(view, about) {
  const change = view.window === null ? 100 * view.change : view.change * (view.window[1] - view.window[0]);
  const unit = view.window === null ? " %" : "";
  put("scale-low", `darker by ${number(change, 2)}${unit}`);
  put("scale-high", `brighter by ${number(change, 2)}${unit}`);

  const notes = [];
  if (view.factor > 1) notes.push(`Shown ${view.factor} times smaller; the download has all pixels.`);
  if (view.channels !== about.model.channels) {
    const [own, other] = about.model.channels === 1 ? ["grey", "colour"] : ["colour", "grey"];
    notes.push(`The model was trained on ${own} images; this ${other} one is enhanced channel by channel.`);
  }
  put("note", notes.join(" "));

  const { before, after } = view.psnr;
  const decibels = (value) => (value === null ? "infinite" : `${value.toFixed(1)} dB`);
  put("psnr", before === undefined ? "" : `PSNR against the original: ${decibels(before)} with noise, ${decibels(after)} enhanced.`);
  if (about.reader !== null) $("reading-tables").replaceChildren(...tables(view, about.reader, about.colours));
}
