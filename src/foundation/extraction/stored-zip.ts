import { crc32 } from 'node:zlib';

export interface StoredFile {
  name: string;
  content: Buffer;
}

const UTF8_NAMES = 0x0800;

/** A zip file (APPNOTE.TXT 4.3) that packs nothing, for a library that takes no other form: below 4 GB and 65,535 files. */
export function storedZip(files: readonly StoredFile[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let length = 0;
  for (const { name, content } of files) {
    const bytes = Buffer.from(name);
    // What stands in both headers: from the version that is needed to the length of the extra fields.
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(UTF8_NAMES, 2);
    common.writeUInt32LE(crc32(content), 10);
    common.writeUInt32LE(content.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(bytes.length, 22);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(length, 10);
    directory.push(Buffer.from('PK\x01\x02\x14\0', 'latin1'), common, place, bytes);
    parts.push(Buffer.from('PK\x03\x04', 'latin1'), common, bytes, content);
    length += 4 + common.length + bytes.length + content.length;
  }
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(
    directory.reduce((sum, part) => sum + part.length, 0),
    12,
  );
  end.writeUInt32LE(length, 16);
  return Buffer.concat([...parts, ...directory, end]);
}
