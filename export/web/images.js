// Pictures as the network was evaluated with them: the centre piece, resized by Pillow's bilinear filter.
// It is done here because every browser makes a canvas smaller in its own way.

// The browser shrinks what is larger to this first: it is faster, and has room for every photo.
const LARGEST_SIDE = 2048;
const CHANNELS = 4;

/**
 * What the network is shown of a picture: the centre piece of its proportions, resized. The piece is
 * that of resnet_keras/view.py, to the pixel.
 * @param {CanvasImageSource} source a bitmap or a video
 * @param {number} sourceWidth in pixels
 * @param {number} sourceHeight in pixels
 * @param {number} width the model's
 * @param {number} height the model's
 * @param {number} centre sides of the piece over those of the largest one
 * @returns {ImageData} width x height; what was transparent is white
 */
export function showCentre(source, sourceWidth, sourceHeight, width, height, centre) {
  const isWide = sourceWidth * height >= sourceHeight * width;
  const part = (side) => Math.max(Math.floor(side * centre + 0.5), 1);
  const rows = part(isWide ? sourceHeight : (sourceWidth * height) / width);
  const columns = part(isWide ? (sourceHeight * width) / height : sourceWidth);
  const top = Math.floor((sourceHeight - rows) / 2);
  const left = Math.floor((sourceWidth - columns) / 2);
  const shrink = Math.min(1, LARGEST_SIDE / Math.min(rows, columns));

  const canvas = document.createElement("canvas");
  canvas.width = Math.round(columns * shrink);
  canvas.height = Math.round(rows * shrink);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, left, top, columns, rows, 0, 0, canvas.width, canvas.height);

  const piece = context.getImageData(0, 0, canvas.width, canvas.height);
  const turned = resizeAndTranspose(piece, windows(canvas.width, width));
  return new ImageData(resizeAndTranspose(turned, windows(canvas.height, height)).data, width, height);
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

// For each of `newSize` pixels that `size` pixels become, the first old one and the weights from there
// on: a triangle as wide as two new pixels, or as two old ones where the image grows.
function windows(size, newSize) {
  const scale = size / newSize;
  const reach = Math.max(scale, 1);
  return Array.from({ length: newSize }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(size, Math.floor(centre + reach + 0.5));
    const weights = Array.from({ length: end - first }, (_, offset) =>
      Math.max(0, 1 - Math.abs(first + offset + 0.5 - centre) / reach),
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
