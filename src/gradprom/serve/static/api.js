// The server's addresses. Every failure becomes an Error whose message is a sentence for a person.

export class Gone extends Error {}

const unreachable = "the server does not answer: it may have been ended; what you uploaded is deleted then";

async function answer(response) {
  if (response.status === 204) return null;
  let body = null;
  try {
    body = await response.json();
  } catch {
    throw new Error(`the server answered with something unexpected (${response.status}); reload the page`);
  }
  if (response.status === 410) throw new Gone(body.error);
  if (!response.ok) throw new Error(body.error);
  return body;
}

async function ask(method, path, body) {
  let response;
  try {
    response = await fetch(path, { method, body, cache: "no-store" });
  } catch {
    throw new Error(unreachable);
  }
  return answer(response);
}

let base = null;

export const about = () => ask("GET", "api/about");
export const thumbnail = (name) => `api/examples/${encodeURIComponent(name)}`;
export const picture = (file, name) => `${base}/files/${file.id}/view/${file.view.number}/${name}`;
export const result = (file) => `${base}/files/${file.id}/result`;

export async function open() {
  const { session } = await ask("POST", "api/sessions");
  base = `api/${session}`;
  return session;
}

export const state = () => ask("GET", base);
export const example = (name) => ask("POST", `${base}/examples/${encodeURIComponent(name)}`);
export const run = (id, settings) => ask("POST", `${base}/files/${id}/run`, JSON.stringify(settings));
export const cancel = (id) => ask("POST", `${base}/files/${id}/cancel`);
export const remove = (id) => ask("DELETE", `${base}/files/${id}`);

// the page is being left: a beacon is sent even so
export function close() {
  if (base !== null) navigator.sendBeacon(`${base}/close`);
  base = null;
}

// fetch tells nothing of how far an upload is
export function upload(file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${base}/files?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => onProgress(event.total > 0 ? event.loaded / event.total : 0);
    request.onload = () => {
      answer(new Response(request.responseText, { status: request.status })).then(resolve, reject);
    };
    // a folder cannot be read, and looks like a server that went away
    request.onerror = () => reject(new Error(`${file.name}: could not be sent; is it a folder, or was the server ended?`));
    request.onabort = () => reject(new Error(`${file.name}: stopped`));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
