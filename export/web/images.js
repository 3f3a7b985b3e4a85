// Pictures as the network was evaluated with them: the centre, resized by Pillow's bilinear filter.
// It is done here because every browser makes a canvas smaller in its own way.

const LARGEST_SIDE = 4096; // some phones' browsers refuse canvases of more than 16.7 million pixels
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
  const left = (wholeWidth - cropWidth) / 2;
  const top = (wholeHeight - cropHeight) / 2;

  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil((left % 1) + cropWidth);
  canvas.height = Math.ceil((top % 1) + cropHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, -Math.floor(left), -Math.floor(top), wholeWidth, wholeHeight);

  const crop = context.getImageData(0, 0, canvas.width, canvas.height);
  const across = windows(crop.width, left % 1, cropWidth, width);
  const down = windows(crop.height, top % 1, cropHeight, height);
  const columns = resizeAndTranspose(crop, across);
  return new ImageData(resizeAndTranspose(columns, down).data, width, height);
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

// For each new pixel, the first old one that counts, and the weights from there on: a triangle as
// wide as two new pixels, or as two old ones where the image grows.
function windows(size, start, length, newSize) {
  const scale = length / newSize;
  const support = Math.max(scale, 1);
  return Array.from({ length: newSize }, (_, index) => {
    const centre = start + (index + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support + 0.5));
    const last = Math.min(size, Math.floor(centre + support + 0.5));
    const weights = Array.from({ length: last - first }, (_, offset) =>
      Math.max(0, 1 - Math.abs(first + offset + 0.5 - centre) / support),
    );
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
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
