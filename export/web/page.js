import { Problem, readExport, sizeOf } from "./export.js";
import { rgb, showCentre } from "./images.js";
import { keepOffline } from "./offline.js";
import { loadNetwork, runtimeOf } from "./runtimes.js";

const TOP = 5;
// As exact as the network, at half its size; the others follow as they are less likely to be meant.
const PREFERRED = [
  "model_float16.tflite",
  "model_float32.tflite",
  "model_dynamic_int8.tflite",
  "model_int8.tflite",
];
const SPEECH_PAUSE = 2000; // ms, so that a screen reader can finish what it says of a moving picture
const RECENT = 15; // runs, of which the camera's time is the median

const page = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((element) => [element.id, element]),
);
const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });

let offer; // what readExport gives
let network; // a promise of what loadNetwork gives
let running = Promise.resolve(); // until the network has answered
let picture; // the photo that is shown, as an ImageBitmap; null while it is the camera's
let stream = null; // the camera's, while it runs
let opening = false; // while the browser asks whether it may
let turn = 0; // counts photos, so that a slow one does not replace the one after it
let spoken = { text: "", time: 0 };

/** Shows a problem in a line of its own; null removes it. */
function complain(error) {
  page.problem.textContent = error === null ? "" : sentence(error);
  if (error !== null && !(error instanceof Problem)) {
    console.error(error);
  }
}

const sentence = (error) => (error instanceof Problem ? error.message : `This went wrong: ${error.message}`);

async function start() {
  offer = await readExport();
  listModels();
  if (offer.page) {
    const guide = document.getElementById("guide");
    guide.href = offer.page;
    guide.hidden = false;
  }
  await keepOffline(offer.version);
  await changeModel();
}

function listModels() {
  const files = offer.models.map((model) => model.file);
  for (const runtime of new Set(files.map(runtimeOf))) {
    const group = Object.assign(document.createElement("optgroup"), { label: runtime });
    for (const model of offer.models.filter(({ file }) => runtimeOf(file) === runtime)) {
      group.append(new Option(`${model.file} (${sizeOf(model)})`, model.file));
    }
    page.model.append(group);
  }
  const wanted = [decodeURIComponent(location.hash.slice(1)), ...PREFERRED, ...files];
  page.model.value = wanted.find((file) => files.includes(file));
}

async function changeModel() {
  const model = offer.models.find(({ file }) => file === page.model.value);
  const before = network;
  network = (async () => {
    await running.catch(() => null);
    (await before?.catch(() => null))?.release();
    return loadNetwork(model);
  })();
  complain(null);
  page.state.textContent = `Loading ${model.file} (${sizeOf(model)})…`;
  const current = network;
  try {
    const { runtime, width, height } = await network;
    page.state.textContent = `${model.file} is ready: ${runtime}, ${width}×${height} pixels.`;
    if (picture) {
      await classifyPhoto(picture);
    }
  } catch (error) {
    if (current === network) {
      page.state.textContent = "";
      throw error;
    }
  }
}

async function classify(source, width, height) {
  const ready = await network;
  const seen = showCentre(source, width, height, ready.width, ready.height, offer.centre);
  running = ready.run(rgb(seen));
  return { seen, ...(await running), runtime: ready.runtime, file: ready.file };
}

async function openPhoto(file) {
  stopCamera();
  complain(null);
  const mine = ++turn;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Problem(
      `${file.name || "This"} is not an image that this browser can read. Choose a JPEG, PNG or WebP file.`,
    );
  }
  if (mine === turn) {
    picture = bitmap;
    await classifyPhoto(bitmap);
  }
}

async function classifyPhoto(bitmap) {
  const answer = await classify(bitmap, bitmap.width, bitmap.height);
  if (bitmap === picture) {
    show(answer, answer.ms);
    speak(answer, 0);
  }
}

async function toggleCamera() {
  if (stream) {
    stopCamera();
    return;
  }
  if (opening) {
    return;
  }
  complain(null);
  opening = true;
  try {
    stream = await openCamera();
  } finally {
    opening = false;
  }
  stream.getVideoTracks()[0].addEventListener("ended", stopCamera); // when it is unplugged
  turn++;
  picture = null;
  page.camera.textContent = "Stop camera";
  await watch(stream);
}

async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new Problem(
      "This page may not use the camera here: browsers allow it on https and localhost only. Choose a photo instead.",
    );
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 640 }, height: { ideal: 480 } },
    });
  } catch (error) {
    const reasons = {
      NotAllowedError: "The camera is not allowed on this page. Allow it in the browser's settings, or choose a photo.",
      NotFoundError: "This device has no camera. Choose a photo instead.",
      NotReadableError: "Another app uses the camera. Close it, or choose a photo.",
    };
    throw new Problem(reasons[error.name] ?? `The camera does not start (${error.name}). Choose a photo instead.`);
  }
}

async function watch(opened) {
  video.srcObject = opened;
  await video.play().catch((error) => {
    if (stream === opened) {
      throw error;
    }
  });
  const times = [];
  while (stream === opened) {
    const answer = await classify(video, video.videoWidth, video.videoHeight);
    if (stream !== opened) {
      break;
    }
    times.push(answer.ms);
    show(answer, median(times.slice(-RECENT)));
    speak(answer, SPEECH_PAUSE);
    await new Promise(requestAnimationFrame);
  }
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  page.camera.textContent = "Start camera";
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

function show({ seen, probabilities, runtime, file }, ms) {
  page.pixels.width = seen.width;
  page.pixels.height = seen.height;
  page.pixels.getContext("2d").putImageData(seen, 0, 0);
  page.view.classList.remove("empty");
  page.view.style.aspectRatio = `${seen.width} / ${seen.height}`;
  page.seen.textContent = `${seen.width}×${seen.height}, as the network sees it`;
  page.pixels.setAttribute("aria-label", `What the network sees: ${stream ? "the camera" : "the photo"}`);
  const rows = ranked(probabilities).map(({ name, percent }) => row(name, percent));
  page.classes.replaceChildren(...rows);
  page.timing.textContent = `${ms.toFixed(1)} ms · ${file} · ${runtime}`;
  page.state.textContent = "";
}

function ranked(probabilities) {
  return [...probabilities]
    .map((probability, index) => ({ probability, index }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, TOP)
    .map(({ probability, index }) => ({
      name: offer.labels[index] ?? `class ${index}`,
      percent: `${(100 * probability).toFixed(1)}%`,
    }));
}

function row(name, percent) {
  const item = document.createElement("li");
  for (const [kind, text] of [["name", name], ["percent", percent]]) {
    item.append(Object.assign(document.createElement("span"), { className: kind, textContent: text }));
  }
  item.style.setProperty("--share", percent);
  return item;
}

// The list of classes changes with every picture of the camera; this line only when there is news.
function speak({ probabilities }, pause) {
  const [{ name, percent }] = ranked(probabilities);
  const text = pause ? name : `${name}, ${percent}`;
  const now = performance.now();
  if (text !== spoken.text && now - spoken.time >= pause) {
    page.spoken.textContent = text;
    spoken = { text, time: now };
  }
}

/** Makes a listener whose problems are shown. */
const reporting = (act) => async (event) => {
  try {
    await act(event);
  } catch (error) {
    stopCamera();
    complain(error);
  }
};

function photoIn(transfer) {
  return [...(transfer?.files ?? [])][0];
}

page.choose.addEventListener("click", () => page.file.click());
page.file.addEventListener(
  "change",
  reporting(async () => {
    const [file] = page.file.files;
    page.file.value = ""; // so that the same photo can be chosen again
    if (file) {
      await openPhoto(file);
    }
  }),
);
page.camera.addEventListener("click", reporting(toggleCamera));
page.model.addEventListener(
  "change",
  reporting(async () => {
    history.replaceState(null, "", `#${encodeURIComponent(page.model.value)}`);
    await changeModel();
  }),
);
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener(
  "drop",
  reporting(async (event) => {
    event.preventDefault();
    const file = photoIn(event.dataTransfer);
    if (file) {
      await openPhoto(file);
    }
  }),
);
document.addEventListener(
  "paste",
  reporting(async (event) => {
    const file = photoIn(event.clipboardData);
    if (file) {
      await openPhoto(file);
    }
  }),
);
document.addEventListener("visibilitychange", () => document.hidden && stopCamera());

reporting(start)();
