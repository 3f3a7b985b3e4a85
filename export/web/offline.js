// Keeps on the device what the page has loaded; service-worker.js does it.

const PATIENCE = 3000; // ms; a forced reload never gets a service worker

/**
 * Waits until whatever is loaded from now on is kept. Older exports are forgotten.
 * @param {string} version of the export
 */
export async function keepOffline(version) {
  if (!navigator.serviceWorker) {
    return; // neither https nor localhost: the page works while the server does
  }
  const controlled = new Promise((resolve) => {
    navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
  });
  try {
    await navigator.serviceWorker.register("service-worker.js");
  } catch (error) {
    console.warn("nothing is kept on the device:", error); // as where the browser may store nothing
    return;
  }
  if (!navigator.serviceWorker.controller) {
    await Promise.race([controlled, new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
  }
  for (const name of await caches.keys()) {
    if (name.startsWith("export-") && name !== `export-${version}`) {
      await caches.delete(name);
    }
  }
}
