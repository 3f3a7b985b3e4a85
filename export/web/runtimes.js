// One face for two runtimes: LiteRT.js for .tflite files, onnxruntime-web for .onnx files.

import { Problem, readFile } from "./export.js";

const THREADS = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;

/** @returns {string} the runtime that loads a file */
export const runtimeOf = (file) => (file.endsWith(".onnx") ? "onnxruntime-web" : "LiteRT.js");

/**
 * A loaded model. It holds memory until it is released.
 * @typedef {object} Network
 * @property {string} file
 * @property {string} runtime and how it runs here
 * @property {number} height of the images it takes, in pixels
 * @property {number} width
 * @property {(pixels: Uint8Array) => Promise<{probabilities: Float32Array, ms: number}>} run
 *   takes height x width RGB pixels
 * @property {() => void} release
 */

/**
 * Loads a model file, and runs it once: the first run takes longer than those that follow.
 * @param {{file: string, url: string}} model
 * @returns {Promise<Network>}
 */
export async function loadNetwork(model) {
  if (typeof WebAssembly !== "object") {
    throw new Problem(
      "This browser has no WebAssembly, in which the networks run. Use a current one, or turn it on (a lockdown mode turns it off).",
    );
  }
  const bytes = new Uint8Array(await readFile(model.url));
  const load = runtimeOf(model.file) === "LiteRT.js" ? loadLiteRt : loadOnnx;
  try {
    const network = await load(bytes);
    await network.run(new Uint8Array(network.height * network.width * 3));
    return { file: model.file, ...network };
  } catch (error) {
    throw new Problem(`${runtimeOf(model.file)} cannot run ${model.file} here: ${error.message ?? error}`);
  }
}

let liteRt; // once a page: its module lives as long as the page does

function startLiteRt() {
  liteRt ??= (async () => {
    const core = await import("@litertjs/core");
    // Its build with threads needs this instruction set too.
    const threads = THREADS > 1 && (await core.supportsFeature("relaxedSimd"));
    await core.loadLiteRt("runtime/litert/", { threads });
    return { core, threads: threads ? THREADS : 1 };
  })();
  return liteRt;
}

async function loadLiteRt(bytes) {
  const { core, threads } = await startLiteRt();
  const model = await core.loadAndCompile(bytes, {
    accelerator: "wasm",
    cpuOptions: { numThreads: threads },
  });
  const [{ shape, dtype }] = model.getInputDetails();
  return {
    runtime: `LiteRT.js, ${threadsInWords(threads)}`,
    height: shape[1],
    width: shape[2],
    async run(pixels) {
      const input = new core.Tensor(dtype === "uint8" ? pixels : Float32Array.from(pixels), shape);
      const start = performance.now();
      const [output] = await model.run([input]);
      const ms = performance.now() - start;
      const probabilities = Float32Array.from(output.toTypedArray());
      input.delete();
      output.delete();
      return { probabilities, ms };
    },
    release: () => model.delete(),
  };
}

async function loadOnnx(bytes) {
  const ort = await import("onnxruntime-web/wasm");
  ort.env.wasm.wasmPaths = new URL("runtime/onnx/", document.baseURI).href;
  ort.env.wasm.numThreads = THREADS;
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const [{ name, shape }] = session.inputMetadata;
  const size = [1, ...shape.slice(1)];
  return {
    runtime: `onnxruntime-web, ${threadsInWords(THREADS)}`,
    height: size[1],
    width: size[2],
    async run(pixels) {
      const input = new ort.Tensor("float32", Float32Array.from(pixels), size);
      const start = performance.now();
      const outputs = await session.run({ [name]: input });
      const ms = performance.now() - start;
      return { probabilities: outputs[session.outputNames[0]].data, ms };
    },
    release: () => session.release(),
  };
}

const threadsInWords = (count) => (count === 1 ? "1 thread" : `${count} threads`);
