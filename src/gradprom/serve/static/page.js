// What all parts of the page use.

export const $ = (id) => document.getElementById(id);

export const isBusy = (file) => file.sending !== undefined || ["waiting", "running"].includes(file.job?.state);

// what went wrong with a file, if anything did
export const errorOf = (file) => file.failure ?? (file.job?.state === "failed" ? file.job.error : null);

export function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function put(id, text) {
  $(id).textContent = text;
  $(id).hidden = text === "";
}

// a screen reader reads it out
export function say(text) {
  $("status").textContent = text;
}

export function size(bytes) {
  if (bytes >= 1e9) return `${Number((bytes / 1e9).toFixed(2))} GB`;
  return bytes >= 1e6 ? `${Math.round(bytes / 1e6)} MB` : `${Math.ceil(bytes / 1e3)} kB`;
}

export const number = (value, digits = 6) => String(Number(value.toPrecision(digits))).replace("-", "−");
