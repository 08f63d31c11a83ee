// Which files there are, and about one of them: what it is, how far it is, and what can be asked for.

import * as api from "./api.js";
import { $, errorOf, isBusy, make, number, put, size } from "./page.js";

const kinds = { png: "PNG", jpeg: "JPEG", tiff: "TIFF", dicom: "DICOM", nifti: "NIfTI" };
const parts = { nifti: "Slice", tiff: "Page", dicom: "Frame" };

export function renderStrip(files, current, onChoose) {
  const list = $("files");
  while (list.children.length > files.length) list.lastElementChild.remove();
  files.forEach((file, index) => {
    if (list.children.length <= index) {
      const button = make("button", { type: "button" }, make("i"), make("span"));
      // by its place: a file's id is another once it has been uploaded, its place is not
      button.addEventListener("click", () => onChoose(index));
      list.append(make("li", {}, button));
    }
    const button = list.children[index].firstElementChild;
    const state = isBusy(file) ? "busy" : errorOf(file) !== null ? "failed" : file.view !== null ? "done" : "stopped";
    const words = { busy: "in work", failed: "failed", done: "enhanced", stopped: "stopped" };
    button.setAttribute("aria-label", `${file.name}, ${words[state]}`);
    button.querySelector("i").dataset.state = state;
    button.querySelector("span").textContent = file.name;
    const isCurrent = String(file.id === current);
    if (button.getAttribute("aria-current") !== isCurrent) {
      button.setAttribute("aria-current", isCurrent);
      if (file.id === current) button.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  });
}

export function renderFile(file, wish) {
  const { view, written } = file;
  const facts = [];
  if (view !== null) {
    facts.push(kinds[view.format], `${view.width * view.factor} × ${view.height * view.factor} pixels`);
    if (view.frames > 1) facts.push(`${view.frames} images`);
    facts.push(view.channels === 1 ? "grey" : "colour");
  }
  put("file-title", file.name);
  put("file-facts", [...facts, size(file.size)].join(", "));
  put("failure", errorOf(file) ?? "");

  const isMany = view !== null && view.frames > 1;
  const isUnfinished = wish !== undefined && !isBusy(file) && file.job?.state !== "done";
  const isOnOffer = isUnfinished && (view === null || !wish.whole);
  put("again", isOnOffer ? (errorOf(file) === null ? "Enhance" : "Try again") : "");
  put("all", isMany && written === null && !isBusy(file) && !isOnOffer ? `Enhance all ${view.frames} images` : "");
  $("download").hidden = written === null;
  const notes = [];
  if (written !== null) {
    $("download").href = api.result(file);
    notes.push(`${kinds[view.format]}, as the input`);
    if (written.sigma > 0) notes.push(`made from the image with noise of σ ${written.sigma}`);
  } else if (!$("all").hidden) {
    notes.push("So far, only the image you look at is enhanced.");
  }
  put("download-note", notes.join(", "));
}

function progressOf(file) {
  if (file.sending !== undefined) {
    return file.sending > 0 ? ["Uploading", file.sending] : ["Waiting to be uploaded", null];
  }
  const { job } = file;
  if (job.state === "waiting") return [job.ahead > 0 ? `Waiting, ${job.ahead} before this` : "Waiting", null];
  if (job.step === "reading") return ["The recognizer reads", null];
  return job.total > 1 ? [`Enhancing, ${Math.round((100 * job.done) / job.total)} %`, job.done / job.total] : ["Enhancing", null];
}

export function renderProgress(file) {
  const isWorking = isBusy(file);
  const isFailed = errorOf(file) !== null;
  $("progress").hidden = !isWorking;
  $("notice").hidden = !isWorking && !isFailed && file.view !== null;
  $("notice").classList.toggle("plain", file.view === null);
  $("notice-bar").hidden = !isWorking;
  $("cancel").hidden = file.sending !== undefined;
  const [text, share] = isWorking ? progressOf(file) : [errorOf(file) ?? "Stopped.", null];
  $("notice-text").textContent = text;
  if (!isWorking) return;
  $("progress-text").textContent = text;
  if (share === null) $("progress-bar").removeAttribute("value");
  else $("progress-bar").value = share;
  $("notice-bar").classList.toggle("unknown", share === null);
  $("notice-bar").firstElementChild.style.width = share === null ? "" : `${100 * share}%`;
}

export function renderControls(file, wish) {
  const { view } = file;
  // they would end what is being done to the whole file
  const isLocked = wish === undefined || (isBusy(file) && wish.whole);
  const isMany = view !== null && view.frames > 1;
  const isTouched = (id) => document.activeElement === $(id) && isBusy(file);
  $("slices").hidden = !isMany;
  if (isMany) {
    $("frame").max = view.frames;
    $("frame").disabled = isLocked;
    if (!isTouched("frame")) $("frame").value = (wish.frame ?? view.frame) + 1;
    $("frame-label").textContent = parts[view.format];
    labelFrame();
  }
  $("toolbar").hidden = view === null;
  $("noise-block").hidden = view === null && errorOf(file) !== null;
  $("noise").disabled = isLocked;
  if (!isTouched("noise")) $("noise").value = wish?.sigma ?? 0;
  labelNoise();
  const hasWindow = view !== null && view.channels === 1 && ["dicom", "nifti"].includes(view.format);
  $("window-block").hidden = !hasWindow;
  if (hasWindow) renderWindow(file, wish, isLocked);
}

export function labelFrame() {
  $("frame-text").textContent = `${$("frame").value} of ${$("frame").max}`;
  $("frame").setAttribute("aria-valuetext", $("frame-text").textContent);
}

export function labelNoise() {
  $("noise-text").textContent = Number($("noise").value).toFixed(2);
}

function renderWindow(file, wish, isLocked) {
  for (const control of $("window-block").querySelectorAll("input, select, button")) control.disabled = isLocked;
  // what somebody is typing stays until something else was asked for
  const key = JSON.stringify([file.id, file.view.windows, wish.low, wish.high]);
  if ($("window-block").dataset.key === key) return;
  $("window-block").dataset.key = key;
  const known = file.view.windows.map(([name, low, high]) => [
    `${name}: ${number(low)} to ${number(high)}`,
    JSON.stringify([low, high]),
  ]);
  const options = [["all values of the file", ""], ...known, ["values of my own", "own"]];
  $("preset").replaceChildren(...options.map(([text, value]) => new Option(text, value)));
  const asked = JSON.stringify([wish.low, wish.high]);
  $("preset").value = wish.low === null ? "" : known.some(([, value]) => value === asked) ? asked : "own";
  $("low").value = wish.low ?? "";
  $("high").value = wish.high ?? "";
}

// calls back with the values that are to be seen as black and white: null and null for the file's own
export function listenToWindow(onChoose) {
  const choose = (low, high) => {
    let sentence = "";
    if ((low === null) !== (high === null)) sentence = "Give both values, or none.";
    else if (low !== null && !(low < high)) sentence = "The value seen as black must be below the one seen as white.";
    put("window-failure", sentence);
    if (sentence === "") onChoose(low, high);
  };
  $("preset").addEventListener("change", () => {
    const { value } = $("preset");
    if (value === "own") $("low").focus();
    else choose(...(value === "" ? [null, null] : JSON.parse(value)));
  });
  $("window-form").addEventListener("submit", (event) => {
    event.preventDefault();
    choose(...[$("low"), $("high")].map((field) => (field.value.trim() === "" ? null : Number(field.value))));
  });
}
