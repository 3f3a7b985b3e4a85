// Pictures as the network was evaluated with them: the centre, resized by Pillow's bilinear filter.
// It is done here because every browser makes a canvas smaller in its own way.

// The browser shrinks what is larger to this first: it is faster, and has room for every photo.
const LARGEST_SIDE = 2048;
const CHANNELS = 4;

/**
 * Cuts out the largest centre piece of the model's proportions, and resizes it.
 * @param {CanvasImageSource} source a bitmap or a video
 * @param {number} sourceWidth in pixels
 * @param {number} sourceHeight in pixels
 * @param {number} width the model's
 * @param {number} height the model's
 * @returns {ImageData} width x height; what was transparent is white
 */
export function fitCentre(source, sourceWidth, sourceHeight, width, height) {
  const shrink = Math.min(1, LARGEST_SIDE / Math.min(sourceWidth, sourceHeight));
  const [wholeWidth, wholeHeight] = [sourceWidth * shrink, sourceHeight * shrink];
  const cropWidth = Math.min(wholeWidth, (wholeHeight * width) / height);
  const cropHeight = Math.min(wholeHeight, (wholeWidth * height) / width);
  const across = cut(wholeWidth, cropWidth, width);
  const down = cut(wholeHeight, cropHeight, height);

  const canvas = document.createElement("canvas");
  canvas.width = across.size;
  canvas.height = down.size;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, -across.first, -down.first, wholeWidth, wholeHeight);

  const piece = context.getImageData(0, 0, canvas.width, canvas.height);
  const columns = resizeAndTranspose(piece, across.windows);
  return new ImageData(resizeAndTranspose(columns, down.windows).data, width, height);
}

/** The pixels without their opacity: RGB 0..255, row by row. */
export function rgb(image) {
  const pixels = new Uint8Array((image.data.length / CHANNELS) * 3);
  for (let from = 0, to = 0; from < image.data.length; from += CHANNELS, to += 3) {
    pixels[to] = image.data[from];
    pixels[to + 1] = image.data[from + 1];
    pixels[to + 2] = image.data[from + 2];
  }
  return pixels;
}

// The middle `length` of `whole` pixels, to become `newSize`: where the piece that counts begins, how
// long it is (the filter looks over the edges of what is cut out), and for each new pixel the
// first one in the piece and the weights from there on: a triangle as wide as two new pixels, or as
// two old ones where the image grows.
function cut(whole, length, newSize) {
  const scale = length / newSize;
  const reach = Math.max(scale, 1);
  const start = (whole - length) / 2;
  const first = Math.max(0, Math.floor(start - reach));
  const end = Math.min(Math.ceil(whole), Math.ceil(start + length + reach));
  const windows = Array.from({ length: newSize }, (_, index) => {
    const centre = start + (index + 0.5) * scale;
    const from = Math.max(first, Math.floor(centre - reach + 0.5));
    const to = Math.min(end, Math.floor(centre + reach + 0.5));
    const weights = Array.from({ length: to - from }, (_, offset) =>
      Math.max(0, 1 - Math.abs(from + offset + 0.5 - centre) / reach),
    );
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first: from - first, weights: weights.map((weight) => weight / sum) };
  });
  return { first, size: end - first, windows };
}

function resizeAndTranspose(image, windows) {
  const data = new Uint8ClampedArray(windows.length * image.height * CHANNELS);
  windows.forEach(({ first, weights }, x) => {
    for (let y = 0; y < image.height; y++) {
      let red = 0;
      let green = 0;
      let blue = 0;
      let from = (y * image.width + first) * CHANNELS;
      for (let index = 0; index < weights.length; index++, from += CHANNELS) {
        red += weights[index] * image.data[from];
        green += weights[index] * image.data[from + 1];
        blue += weights[index] * image.data[from + 2];
      }
      const to = (x * image.height + y) * CHANNELS;
      data[to] = red;
      data[to + 1] = green;
      data[to + 2] = blue;
      data[to + 3] = 255;
    }
  });
  return { data, width: image.height, height: windows.length };
}
