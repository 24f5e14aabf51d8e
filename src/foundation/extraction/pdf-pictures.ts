import { encode } from 'fast-png';
import { type getDocumentProxy, getResolvedPDFJS } from 'unpdf';

type PdfDocument = Awaited<ReturnType<typeof getDocumentProxy>>;
export type PdfPage = Awaited<ReturnType<PdfDocument['getPage']>>;

/** Smaller pictures are ornaments, larger ones (A4 at 600 dpi) take too much memory. */
export const MIN_PICTURE_PIXELS = 40_000;
export const MAX_PICTURE_PIXELS = 36_000_000;
/** Pixels of the longer side, about A4 at 200 dpi: models that read pictures make them smaller than that. */
const MAX_SIDE = 2400;

/** A picture that a page shows, by its name within the parser. */
export interface PagePicture {
  id: string;
  width: number;
  height: number;
}

interface DecodedPicture {
  width: number;
  height: number;
  data: Uint8Array | Uint8ClampedArray;
  /** Of `ImageKind`; masks have none and are black where a bit is 0. */
  kind?: number;
}

/** The largest picture of a page; null where none could hold text. */
export async function largestPicture(page: PdfPage): Promise<PagePicture | null> {
  const { OPS } = await getResolvedPDFJS();
  const { fnArray, argsArray } = await page.getOperatorList();
  let largest: PagePicture | null = null;
  for (const [index, operator] of fnArray.entries()) {
    const picture = pictureOf(operator, argsArray[index], OPS);
    if (!picture) continue;
    const pixels = picture.width * picture.height;
    if (pixels >= MIN_PICTURE_PIXELS && pixels > (largest ? largest.width * largest.height : 0))
      largest = picture;
  }
  return largest;
}

function pictureOf(operator: number, args: unknown, ops: Record<string, number>): PagePicture | null {
  if (!Array.isArray(args)) return null;
  if (operator === ops['paintImageXObject']) {
    const [id, width, height] = args as [string, number, number];
    return { id, width, height };
  }
  if (operator === ops['paintImageMaskXObject']) {
    const { data, width, height } = args[0] as { data: unknown; width: number; height: number };
    return typeof data === 'string' ? { id: data, width, height } : null;
  }
  return null;
}

/** A picture of a page as PNG, made smaller where it is large; null where it could not be decoded. */
export async function pngOf(page: PdfPage, { id }: PagePicture): Promise<Uint8Array | null> {
  const objects = id.startsWith('g_') ? page.commonObjs : page.objs;
  const decoded = await new Promise<DecodedPicture | null>(resolve => objects.get(id, resolve));
  if (!decoded?.data) return null;
  const { ImageKind } = await getResolvedPDFJS();
  const { kind = ImageKind.GRAYSCALE_1BPP } = decoded;
  if (kind === ImageKind.GRAYSCALE_1BPP) return png(decoded, 1, addBits);
  return png(decoded, 3, kind === ImageKind.RGBA_32BPP ? addOpaque : addColours);
}

/** Adds the values (0-255) of row `y` to those of the pixels that they become part of, `step` to one. */
type AddRow = (sums: Float64Array, picture: DecodedPicture, y: number, step: number) => void;

const addBits: AddRow = (sums, { data, width }, y, step) => {
  const start = y * ((width + 7) >> 3);
  for (let to = 0, x = 0; to < sums.length; to++) {
    for (let column = 0; column < step; column++, x++) {
      if ((data[start + (x >> 3)]! >> (7 - (x & 7))) & 1) sums[to]! += 255;
    }
  }
};

const addColours: AddRow = (sums, { data, width }, y, step) => {
  let from = y * width * 3;
  for (let to = 0; to < sums.length; to += 3) {
    for (let column = 0; column < step; column++, from += 3) {
      sums[to]! += data[from]!;
      sums[to + 1]! += data[from + 1]!;
      sums[to + 2]! += data[from + 2]!;
    }
  }
};

/** Over white. */
const addOpaque: AddRow = (sums, { data, width }, y, step) => {
  let from = y * width * 4;
  for (let to = 0; to < sums.length; to += 3) {
    for (let column = 0; column < step; column++, from += 4) {
      const alpha = data[from + 3]! / 255;
      for (let channel = 0; channel < 3; channel++) {
        sums[to + channel]! += 255 - (255 - data[from + channel]!) * alpha;
      }
    }
  }
};

/** Each pixel is the mean of those that it stands for. */
function png(picture: DecodedPicture, channels: 1 | 3, addRow: AddRow): Uint8Array {
  const longer = Math.max(picture.width, picture.height);
  const step = Math.min(Math.ceil(longer / MAX_SIDE), picture.width, picture.height);
  const width = Math.floor(picture.width / step);
  const height = Math.floor(picture.height / step);
  const data = new Uint8Array(width * height * channels);
  const sums = new Float64Array(width * channels);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let row = 0; row < step; row++) addRow(sums, picture, y * step + row, step);
    for (let at = 0; at < sums.length; at++) data[y * sums.length + at] = sums[at]! / (step * step);
  }
  const grey = channels === 3 && isGrey(data) ? everyThird(data) : null;
  return encode(
    grey ? { width, height, data: grey, channels: 1, depth: 8 } : { width, height, data, channels, depth: 8 },
    { zlib: { level: 3 } },
  );
}

/** Whether red, green and blue are the same everywhere, as in most scans. */
function isGrey(data: Uint8Array): boolean {
  for (let at = 0; at < data.length; at += 3) {
    if (data[at] !== data[at + 1] || data[at] !== data[at + 2]) return false;
  }
  return true;
}

function everyThird(data: Uint8Array): Uint8Array {
  const values = new Uint8Array(data.length / 3);
  for (let at = 0; at < values.length; at++) values[at] = data[at * 3]!;
  return values;
}
