import { Problem, readExport, readFile } from "./export.js";
import { readNpy } from "./npy.js";
import { keepOffline } from "./offline.js";
import { loadNetwork, runtimeOf } from "./runtimes.js";

const BREATH = 100; // ms of work, after which the browser may draw and answer

const page = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((element) => [element.id, element]),
);

let running = null; // the AbortController of the check that runs

async function start() {
  const offer = await readExport();
  await keepOffline(offer.version);
  if (!offer.check) {
    throw new Problem(
      "This export has no held-out images to check with. Run resnet-keras export again, then load this page again.",
    );
  }
  page.start.disabled = false;
  page.start.addEventListener("click", () => (running ? running.abort() : check(offer)));
}

async function check(offer) {
  running = new AbortController();
  page.start.textContent = "Stop the check";
  page.problem.textContent = "";
  page.files.querySelectorAll("tbody").forEach((body) => body.remove());
  page.state.textContent = "";
  page.record.hidden = true;
  page.result.textContent = "";
  try {
    const examples = await readExamples(offer.check);
    const files = [];
    for (const model of offer.models) {
      files.push(await checkModel(model, examples, running.signal));
      page.files.append(group(files.at(-1)));
    }
    finish({ device: navigator.userAgent, version: offer.version, files });
  } catch (error) {
    page.state.textContent = running.signal.aborted ? "Stopped." : "";
    if (!running.signal.aborted) {
      complain(error);
    }
  } finally {
    running = null;
    page.progress.textContent = "";
    page.start.textContent = "Start the check";
  }
}

async function readExamples(folder) {
  const [images, labels, probabilities] = await Promise.all(
    ["images", "labels", "probabilities"].map(async (name) =>
      readNpy(await readFile(`${folder}${name}.npy`)),
    ),
  );
  const [count, height, width] = images.shape;
  const classes = probabilities.shape[1];
  return Array.from({ length: count }, (_, index) => ({
    pixels: slice(images.data, index, height * width * 3),
    label: Number(labels.data[index]),
    expected: slice(probabilities.data, index, classes),
  }));
}

const slice = (data, index, size) => data.subarray(index * size, (index + 1) * size);

// A file that does not run here is a result too: the others are still checked.
async function checkModel(model, examples, signal) {
  page.progress.textContent = `Loading ${model.file}…`;
  let network;
  try {
    network = await loadNetwork(model);
    return { file: model.file, runtime: network.runtime, ...(await compare(network, model, examples, signal)) };
  } catch (error) {
    signal.throwIfAborted();
    return { file: model.file, runtime: runtimeOf(model.file), problem: error.message };
  } finally {
    network?.release();
  }
}

async function compare(network, model, examples, signal) {
  const times = [];
  let [agreeing, right, difference, breath] = [0, 0, 0, 0];
  for (const { pixels, label, expected } of examples) {
    const { probabilities, ms } = await network.run(pixels);
    const top = argmax(probabilities);
    agreeing += top === argmax(expected);
    right += top === label;
    difference = Math.max(difference, ...expected.map((value, index) => Math.abs(value - probabilities[index])));
    times.push(ms);
    if (performance.now() - breath > BREATH) {
      page.progress.textContent = `${model.file}: ${times.length} of ${examples.length} images`;
      await new Promise((resolve) => setTimeout(resolve));
      signal.throwIfAborted();
      breath = performance.now();
    }
  }
  const median = times.sort((a, b) => a - b)[times.length >> 1];
  return { images: examples.length, agreeing, right, difference, median_ms: median };
}

const argmax = (values) => values.indexOf(Math.max(...values));

// Two lines a file, so that the table fits a phone.
function group({ file, runtime, problem, images, agreeing, difference, median_ms: ms }) {
  const name = element("th", file, { scope: "rowgroup", colSpan: 4 });
  name.append(" ", element("small", runtime));
  const cells = problem
    ? [element("td", problem, { colSpan: 4 })]
    : [images, agreeing, difference.toPrecision(2), `${ms.toFixed(1)} ms`].map((text) =>
        element("td", text),
      );
  const body = element("tbody");
  for (const line of [[name], cells]) {
    body.append(element("tr"));
    body.lastChild.append(...line);
  }
  return body;
}

const element = (tag, textContent = "", properties = {}) =>
  Object.assign(document.createElement(tag), { textContent, ...properties });

function finish(result) {
  const agreeing = result.files.filter((file) => file.agreeing === file.images && !file.problem);
  page.state.textContent = `Done: ${agreeing.length} of ${result.files.length} files give Keras's top class for every image.`;
  page.result.textContent = JSON.stringify(result, null, 2);
  page.record.hidden = false;
}

function complain(error) {
  page.problem.textContent =
    error instanceof Problem ? error.message : `This went wrong: ${error.message}`;
  if (!(error instanceof Problem)) {
    console.error(error);
  }
}

page.start.disabled = true;
start().catch(complain);
