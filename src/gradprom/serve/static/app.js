// The page: what was uploaded, what is asked of the server, and what people do.

import * as api from "./api.js";
import { listenToViewer, renderView } from "./compare.js";
import { $, isBusy, make, put, say, size } from "./page.js";
import { labelFrame, labelNoise, listenToWindow, renderControls, renderFile, renderProgress, renderStrip } from "./panel.js";

const files = new Map(); // by id, as the server tells them; those on their way have an id of this page
const wishes = new Map(); // by id: what is asked for
const busy = 300; // milliseconds between looks while something is being done
const lost = 3000; // while the server does not answer
const calm = 60_000; // and otherwise, as a sign of life

let about = null;
let current = null;
let isOver = false; // the server holds nothing of this page any more
let sending = Promise.resolve();
let counter = 0;
let timer = null;
let asked = 0; // how often something was asked for that changes what the server would tell

function fail(error) {
  if (error instanceof api.Gone) isOver = true;
  put("banner-text", error.message);
  $("banner").hidden = false;
  $("reload").hidden = !isOver;
}

// gives null where it fails, which is told of on top of the page
async function attempt(what) {
  try {
    const result = await what();
    if (!isOver) $("banner").hidden = true;
    return result;
  } catch (error) {
    fail(error);
    return null;
  }
}

// Asking the server

async function look() {
  const before = asked;
  const state = await attempt(api.state);
  // an answer from before that change would undo it here
  if (before === asked) for (const file of state?.files ?? []) take(file);
  if (state !== null) render();
  schedule(state === null ? lost : null);
}

function schedule(delay = null) {
  clearTimeout(timer);
  if (isOver) return;
  const isWaiting = [...files.values()].some((file) => isBusy(file) && file.sending === undefined);
  timer = setTimeout(look, delay ?? (isWaiting ? busy : calm));
}

function take(file) {
  const before = files.get(file.id);
  if (before === undefined) return; // it was removed meanwhile
  files.set(file.id, file);
  if (!isBusy(before) || isBusy(file)) return;
  const { state, error } = file.job;
  say(state === "failed" ? `Failed: ${error}` : state === "cancelled" ? `${file.name}: stopped` : `${file.name}: enhanced`);
}

async function run(id, change = {}) {
  const wish = { ...wishes.get(id), whole: false, ...change };
  wishes.set(id, wish);
  const file = await attempt(() => api.run(id, wish));
  asked += 1;
  if (file !== null && files.has(id)) files.set(id, file);
  render();
  schedule();
}

function begin(file, sigma) {
  files.set(file.id, file);
  wishes.set(file.id, { frame: null, sigma, low: null, high: null, whole: false });
  return run(file.id);
}

function send(list) {
  // one after the other, as one after the other they are worked on
  for (const [index, file] of [...list].entries()) {
    const id = `sending-${(counter += 1)}`;
    files.set(id, { id, name: file.name, size: file.size, sending: 0, job: null, view: null, written: null });
    if (index === 0) current = id;
    sending = sending.then(() => sendOne(id, file));
  }
  render();
}

async function sendOne(id, file) {
  if (!files.has(id)) return; // it was removed while it waited
  let sent = null;
  const stop = new AbortController();
  files.get(id).stop = stop;
  try {
    if (file.size > about.limits.upload) {
      throw new Error(
        `${file.name}: expected a file of at most ${size(about.limits.upload)}, found one of ${size(file.size)}; ` +
          "use gradprom enhance, or start the page with a higher --max-upload",
      );
    }
    if (file.size === 0) throw new Error(`${file.name}: expected an image, found an empty file or a folder`);
    say(`Uploading ${file.name}`);
    const onProgress = (share) => {
      if (files.has(id)) files.get(id).sending = share;
      render();
    };
    sent = await api.upload(file, onProgress, stop.signal);
  } catch (error) {
    if (stop.signal.aborted) return;
    if (error instanceof api.Gone) fail(error);
    files.set(id, { ...files.get(id), sending: undefined, failure: error.message });
    say(`Failed: ${error.message}`);
    render();
    return;
  }
  if (!files.has(id)) {
    await attempt(() => api.remove(sent.id));
    return;
  }
  // it takes the place of the entry that stood for it
  const entries = [...files].map(([key, entry]) => (key === id ? [sent.id, sent] : [key, entry]));
  files.clear();
  for (const [key, entry] of entries) files.set(key, entry);
  if (current === id) current = sent.id;
  await begin(sent, 0);
}

async function useExample(name, button) {
  button.disabled = true;
  say("Preparing the example");
  const file = await attempt(() => api.example(name));
  button.disabled = false;
  if (file === null) return;
  current = file.id;
  $("more").setAttribute("aria-expanded", "false");
  await begin(file, about.exampleNoise);
}

async function removeCurrent() {
  const id = current;
  const ids = [...files.keys()];
  current = ids[ids.indexOf(id) + 1] ?? ids[ids.indexOf(id) - 1] ?? null;
  files.get(id).stop?.abort();
  const isAtServer = wishes.delete(id);
  files.delete(id);
  render();
  (current === null ? $("choose") : $("files").querySelector('[aria-current="true"]')).focus();
  if (isAtServer) await attempt(() => api.remove(id));
}

function choose(place) {
  current = [...files.keys()][place];
  render();
}

function render() {
  const file = files.get(current) ?? null;
  document.title = file === null ? "gradprom" : `${file.name} – gradprom`;
  $("entrance").hidden = file !== null;
  $("strip").hidden = $("work").hidden = file === null;
  $("examples").hidden = file !== null && $("more").getAttribute("aria-expanded") === "false";
  renderStrip([...files.values()], current, choose);
  if (file !== null) {
    renderFile(file, wishes.get(current));
    renderProgress(file);
    renderControls(file, wishes.get(current));
  }
  attempt(() => renderView(file, about));
}

// What people do

function listen() {
  $("choose").addEventListener("change", (event) => {
    send(event.target.files);
    event.target.value = ""; // the same file may be chosen again
  });
  $("add").addEventListener("click", () => $("choose").click());
  $("more").addEventListener("click", () => {
    $("more").setAttribute("aria-expanded", String($("examples").hidden));
    render();
  });
  $("reload").addEventListener("click", () => location.reload());
  $("cancel").addEventListener("click", () => attempt(() => api.cancel(current)).then(look));
  $("again").addEventListener("click", () => run(current));
  $("all").addEventListener("click", () => run(current, { whole: true, frame: files.get(current).view.frame }));
  $("remove").addEventListener("click", removeCurrent);
  $("frame").addEventListener("input", labelFrame);
  $("frame").addEventListener("change", () => run(current, { frame: Number($("frame").value) - 1 }));
  $("noise").addEventListener("input", labelNoise);
  $("noise").addEventListener("change", () => run(current, { sigma: Number($("noise").value) }));
  listenToWindow((low, high) => run(current, { low, high }));
  listenToViewer(render);
  listenToDrops();
  addEventListener("pagehide", () => api.close());
  // a page that comes back from the browser's own cache has no files at the server any more
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
}

function listenToDrops() {
  let depth = 0; // every element that is crossed is entered and left
  const on = (name, what) =>
    document.addEventListener(name, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      what(event);
      $("veil").hidden = depth <= 0;
    });
  on("dragenter", () => { depth += 1; });
  on("dragleave", () => { depth -= 1; });
  on("dragover", () => {});
  on("drop", (event) => {
    depth = 0;
    send(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => send(event.clipboardData?.files ?? []));
}

function introduce() {
  const { name, channels, scale, card } = about.model;
  const kind = channels === 1 ? "grey images" : "colour images";
  put("model-name", name);
  put("model-kind", scale > 1 ? `, ${kind}, enlarges ${scale} times` : `, ${kind}`);
  $("card").hidden = !card;
  put("version", about.version);
  put("limit", `at most ${size(about.limits.upload)}`);
  $("noise").max = about.limits.noise;
  for (const example of about.examples) {
    const text = make("span", {}, make("b", { textContent: example.title }), make("small", { textContent: example.what }));
    const button = make("button", { type: "button" }, make("img", { src: api.thumbnail(example.name), alt: "" }), text);
    button.addEventListener("click", () => useExample(example.name, button));
    $("example-list").append(make("li", {}, button));
  }
}

about = await attempt(api.about);
if (about !== null && (await attempt(api.open)) !== null) {
  introduce();
  listen();
  render();
  schedule();
}
