// Answers from the server while there is one, and from what is kept on the device when not.
//
// The URLs of an export's files hold its version, so what is kept of them is never out of date.
// Everything else is asked for again, and kept anew where the server's tag says that it changed.

const PAGE = "page";
const SHELL = [
  "./",
  "check.html",
  "check.js",
  "export.js",
  "export.json",
  "icons/icon-192.png",
  "icons/icon-512.png",
  "icons/icon-maskable-512.png",
  "icons/icon.svg",
  "images.js",
  "manifest.webmanifest",
  "npy.js",
  "offline.js",
  "page.js",
  "runtimes.js",
  "style.css",
];

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(PAGE).then((cache) => cache.addAll(SHELL)));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  if (event.request.method !== "GET" || origin !== self.location.origin) {
    return;
  }
  const version = /\/export\/([0-9a-f]+)\//.exec(pathname)?.[1];
  event.respondWith(version ? fromDevice(event, `export-${version}`) : fromServer(event));
});

async function fromDevice(event, name) {
  const cache = await caches.open(name);
  const kept = await cache.match(event.request);
  if (kept) {
    return kept;
  }
  const response = await fetch(event.request);
  keep(event, cache, response);
  return response;
}

async function fromServer(event) {
  const cache = await caches.open(PAGE);
  const kept = await cache.match(event.request, { ignoreSearch: true });
  let response;
  try {
    response = await fetch(event.request);
  } catch (error) {
    if (kept) {
      return kept;
    }
    throw error;
  }
  const tag = response.headers.get("ETag");
  if (!tag || tag !== kept?.headers.get("ETag")) {
    keep(event, cache, response);
  }
  return response;
}

function keep(event, cache, response) {
  if (response.ok) {
    const kept = cache.put(event.request, response.clone());
    event.waitUntil(kept.catch((error) => console.warn("not kept on the device:", error)));
  }
}
