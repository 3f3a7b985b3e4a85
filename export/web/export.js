// What the server offers: the export's classes, its files, and images to check them with.

/** What stands in the way, in words for whoever holds the device. */
export class Problem extends Error {}

/**
 * @returns {Promise<{version: string, labels: string[], check: ?string, centre: number,
 *   models: {file: string, bytes: number, url: string}[]}>}
 */
export async function readExport() {
  const description = await (await get("export.json")).json();
  if (description.models.length === 0) {
    throw new Problem(
      "There is no model in the export's folder. Run resnet-keras export, then load this page again.",
    );
  }
  return description;
}

/** A file's size in words. */
export const sizeOf = ({ bytes }) =>
  bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;

/** @returns {Promise<ArrayBuffer>} of a file that the export names */
export async function readFile(url) {
  return (await get(url)).arrayBuffer();
}

async function get(url) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Problem(
      `${nameOf(url)} is not on this device yet, and the server does not answer. Start it, then load this page again.`,
    );
  }
  if (!response.ok) {
    throw new Problem(
      `${nameOf(url)} is no longer on the server: the export has changed. Load this page again.`,
    );
  }
  return response;
}

const nameOf = (url) => url.split("/").pop();
