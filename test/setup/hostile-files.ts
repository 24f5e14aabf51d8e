import { crc32, deflateRawSync } from 'node:zlib';

export interface RawEntry {
  /** Bytes as they stand in the file, of whatever encoding. */
  name: string | Buffer;
  /** Packed, unless it is stored. */
  data: Buffer;
  /** 0 stored, 8 Deflate [8]. */
  method?: number;
  /** Of what it unpacks to; wrong ones are what this is for. */
  size: number;
  sum: number;
  /** General purpose flags [none]: 1 is encryption. */
  flags?: number;
}

/** A well-formed entry. */
export const entryOf = (name: string | Buffer, content: string | Buffer): RawEntry => {
  const bytes = Buffer.from(content);
  return { name, data: deflateRawSync(bytes), size: bytes.length, sum: crc32(bytes) };
};

export const storedEntryOf = (name: string, content: Buffer): RawEntry => ({
  name,
  data: content,
  method: 0,
  size: content.length,
  sum: crc32(content),
});

/** A zip file (APPNOTE.TXT 4.3) with headers that say whatever they are told to. */
export function rawZip(entries: RawEntry[]): Buffer {
  const parts: Buffer[] = [];
  const offsets: number[] = [];
  let length = 0;
  for (const entry of entries) {
    const name = Buffer.from(entry.name);
    const header = Buffer.alloc(30);
    header.write('PK\x03\x04', 'latin1');
    writeCommon(header, 4, entry, name);
    offsets.push(length);
    parts.push(header, name, entry.data);
    length += header.length + name.length + entry.data.length;
  }
  return Buffer.concat([...parts, directoryOf(entries, offsets, length)]);
}

/** The central directory and its end record; entries may share an offset. */
export function directoryOf(entries: RawEntry[], offsets: number[], start: number): Buffer {
  const headers = entries.flatMap((entry, index) => {
    const name = Buffer.from(entry.name);
    const header = Buffer.alloc(46);
    header.write('PK\x01\x02', 'latin1');
    header.writeUInt16LE(20, 4);
    writeCommon(header, 6, entry, name);
    header.writeUInt32LE(offsets[index]!, 42);
    return [header, name];
  });
  const directory = Buffer.concat(headers);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(entries.length & 0xffff, 8);
  end.writeUInt16LE(entries.length & 0xffff, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(start, 16);
  return Buffer.concat([directory, end]);
}

function writeCommon(header: Buffer, at: number, entry: RawEntry, name: Buffer): void {
  header.writeUInt16LE(20, at);
  header.writeUInt16LE(entry.flags ?? 0, at + 2);
  header.writeUInt16LE(entry.method ?? 8, at + 4);
  header.writeUInt32LE(entry.sum, at + 10);
  header.writeUInt32LE(entry.data.length, at + 14);
  header.writeUInt32LE(entry.size, at + 18);
  header.writeUInt16LE(name.length, at + 22);
}

/** One packed megabyte that every entry of the archive claims for itself: 1,000 files of a gigabyte each. */
export function overlappingZip(entries: number): Buffer {
  const content = Buffer.alloc(100 * 1024 * 1024, 'a');
  const packed = deflateRawSync(content, { level: 9 });
  const kernel: RawEntry = { name: '0000.txt', data: packed, size: content.length, sum: crc32(content) };
  const single = rawZip([kernel]);
  const start = single.indexOf('PK\x01\x02', 0, 'latin1');
  const all = Array.from({ length: entries }, (_, index) => ({
    ...kernel,
    name: `${String(index).padStart(4, '0')}.txt`,
  }));
  return Buffer.concat([
    single.subarray(0, start),
    directoryOf(
      all,
      all.map(() => 0),
      start,
    ),
  ]);
}

/** Packed zeros that unpack to a thousand times their size, whatever size they declare. */
export function bombEntry(name: string, megabytes: number, declared = megabytes * 1024 * 1024): RawEntry {
  const content = Buffer.alloc(megabytes * 1024 * 1024, 'x');
  return { name, data: deflateRawSync(content), size: declared, sum: crc32(content) };
}

/** The head of a Compound File (MS-CFB) with a directory that names what wraps encrypted Office documents. */
export const encryptedOfficeFile = (): Buffer =>
  Buffer.concat([
    Buffer.from('d0cf11e0a1b11ae1', 'hex'),
    Buffer.alloc(1016),
    Buffer.from('EncryptedPackage', 'utf16le'),
    Buffer.alloc(480),
  ]);

/** Entities that would grow to gigabytes if a parser expanded them. */
export const BILLION_LAUGHS = `<!DOCTYPE x [<!ENTITY a0 "ha">${Array.from(
  { length: 9 },
  (_, index) => `<!ENTITY a${index + 1} "${`&a${index};`.repeat(10)}">`,
).join('')}]>`;
