import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';

/** A file of a folder that is being ingested. */
export interface LocalFile {
  /** Absolute. */
  path: string;
  /** Below the folder, with slashes: what its documents are versions of. */
  sourceId: string;
}

export interface FolderContent {
  files: LocalFile[];
  /** Links, whose files stand elsewhere or here under their own name. */
  links: number;
}

/**
 * Every file of a folder and of the folders in it, in the order of their names. What is hidden is left out, and so are
 * links: they lead out of the folder, or to what is in it anyway.
 *
 * @param wanted whether a file is, by its path below the folder
 */
export async function listFolder(root: string, wanted: (path: string) => boolean): Promise<FolderContent> {
  const content: FolderContent = { files: [], links: 0 };
  const folders = [''];
  for (let folder = folders.shift(); folder !== undefined; folder = folders.shift()) {
    for await (const entry of await opendir(join(root, folder))) {
      if (entry.name.startsWith('.')) continue;
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isSymbolicLink()) content.links++;
      else if (entry.isFile() && wanted(path)) content.files.push({ path: join(root, path), sourceId: path });
    }
  }
  content.files.sort((a, b) => (a.sourceId < b.sourceId ? -1 : 1));
  return content;
}

/** Of the whole content, hexadecimal. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/**
 * What a pattern matches: `*` anything but a slash, `**` anything, `?` one character, `{a,b}` one of several. A pattern
 * without a slash is for names, in whatever folder.
 */
export function globMatcher(pattern: string): (path: string) => boolean {
  const expression = new RegExp(`^${translate(pattern)}$`, 'su');
  const ofNames = !pattern.includes('/');
  return path => expression.test(ofNames ? basename(path) : path);
}

function translate(pattern: string): string {
  const parts = pattern.match(/\*\*\/|\*+|\?|\{[^{}/]*\}|[^*?{]+|\{/gu) ?? [];
  return parts
    .map(part => {
      if (part === '**/') return '(?:[^/]+/)*';
      if (part === '*') return '[^/]*';
      if (part.startsWith('*')) return '.*';
      if (part === '?') return '[^/]';
      if (part.startsWith('{') && part.endsWith('}'))
        return `(?:${part.slice(1, -1).split(',').map(translate).join('|')})`;
      return part.replace(/[\\^$.*+?()[\]{}|]/gu, '\\$&');
    })
    .join('');
}
