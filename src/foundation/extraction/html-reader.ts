import { Readability } from '@mozilla/readability';
import * as cheerio from 'cheerio';
import { Parser } from 'htmlparser2';
import { parseHTML } from 'linkedom';
import TurndownService from 'turndown';
import { DocumentError } from './document-error.js';
import type { ExtractedText, ReadContext } from './document-parts.js';
import { decodeText } from './text-encoding.js';

const NOT_CONTENT =
  'script, style, noscript, template, svg, annotation, annotation-xml, iframe, object, canvas, dialog, nav, ' +
  'input, textarea, select, button, datalist, ' +
  'footer, [role=navigation], [role=search], [hidden], [aria-hidden=true], ' +
  '[style*="display:none" i], [style*="display: none" i]';
/** Elements of a page whose main content is looked for; the search takes time for each of them. */
const MAX_READABLE_ELEMENTS = 100_000;
/** Elements within elements: browsers stop at 512, and building a tree takes time with the square of its depth. */
const MAX_DEPTH = 3000;

/** A web page or a file of HTML. `context.readable`: what surrounds an article is left out. */
export function readHtml(content: Uint8Array, { readable }: Pick<ReadContext, 'readable'>): ExtractedText {
  const html = decodeText(content);
  const $ = parse(html);
  const canonicalUrl = canonicalAddress($);
  const title = $('head > title').first().text().trim() || $('h1').first().text().trim();
  removeNoise($);
  const heading = $('h1').length === 1 ? $('h1').text().replaceAll(/\s+/g, ' ').trim() : '';
  const article = readable && $('*').length <= MAX_READABLE_ELEMENTS ? mainContent($) : null;
  if (article) {
    // It takes the title for said where it was said in the heading of the page.
    const above = heading || article.title;
    const text = above === '' || /^# /m.test(article.text) ? article.text : `# ${above}\n\n${article.text}`;
    return page(article.title || title, canonicalUrl, text);
  }
  const main = $('main');
  const shown = main.length === 1 && main.text().trim() !== '' ? main : $('body');
  return page(title, canonicalUrl, toMarkdown(shown.html() ?? ''));
}

function removeNoise($: cheerio.CheerioAPI): void {
  $(NOT_CONTENT).remove();
  // A whole page may stand within one (ASP.NET does that), and the search for an article leaves forms out.
  $('form').prop('tagName', 'div');
}

const page = (title: string, canonicalUrl: string | null, text: string): ExtractedText => ({
  title,
  canonicalUrl,
  format: 'markdown',
  pages: [{ page: null, text }],
});

/** The article of a page as Firefox's reader view finds it; null where there is none. */
function mainContent($: cheerio.CheerioAPI): { title: string; text: string } | null {
  const { document } = parseHTML($.html());
  const article = new Readability(document).parse();
  const text = article?.content ? toMarkdown(article.content) : '';
  return text.trim() === '' ? null : { title: article?.title?.replaceAll(/\s+/g, ' ').trim() ?? '', text };
}

/**
 * The address that a page calls its own: <link rel=canonical>, else og:url. It is absolute where the page
 * says so; otherwise it is left for whoever knows where the page came from to resolve.
 */
function canonicalAddress($: cheerio.CheerioAPI): string | null {
  const base = $('base[href]').first().attr('href');
  const candidates = [
    $('link[rel~="canonical" i][href]').first().attr('href'),
    $('meta[property="og:url"][content]').first().attr('content'),
  ];
  for (const candidate of candidates) {
    const address = candidate?.trim() ?? '';
    if (address === '' || address.length > 2000) continue;
    const url = parseUrl(address, base);
    if (!url) return /^[a-z][a-z\d+.-]*:/i.test(address) ? null : address;
    if (url.protocol === 'http:' || url.protocol === 'https:') return url.href;
  }
  return null;
}

function parseUrl(address: string, base: string | undefined): URL | null {
  try {
    return new URL(address, base);
  } catch {
    return null;
  }
}

function parse(html: string, xhtml = /^\s*<\?xml/.test(html)): cheerio.CheerioAPI {
  refuseDepth(html, xhtml);
  // XHTML closes elements in themselves, which HTML does not know: `<title/>` would swallow the whole page.
  return xhtml
    ? cheerio.load(html, { xml: { xmlMode: false, recognizeSelfClosing: true } })
    : cheerio.load(html);
}

function refuseDepth(html: string, recognizeSelfClosing: boolean): void {
  let depth = 0;
  const parser = new Parser(
    {
      onopentag: () => {
        if (++depth > MAX_DEPTH)
          throw new DocumentError('damaged', 'The page is nested too deeply to be read.');
      },
      onclosetag: () => void depth--,
    },
    { recognizeSelfClosing },
  );
  parser.write(html);
  parser.end();
}

/** A chapter of a book as Markdown. */
export function xhtmlToMarkdown(xhtml: string): string {
  const $ = parse(xhtml, true);
  removeNoise($);
  const body = $('body');
  return toMarkdown((body.length > 0 ? body.html() : $.html()) ?? '');
}

const turndown = new TurndownService({
  headingStyle: 'atx',
  codeBlockStyle: 'fenced',
  bulletListMarker: '-',
  hr: '---',
});
// The text is searched and read, not rendered again: "snake\_case" would be another word than "snake_case".
turndown.escape = text => text;
turndown.addRule('link', {
  filter: node => node.nodeName === 'A',
  // Relative addresses lead nowhere outside of their site.
  replacement: (content, node) => {
    const href = node instanceof Object && 'getAttribute' in node ? node.getAttribute('href') : null;
    return content.trim() && href && /^(?:https?|mailto):/i.test(href) ? `[${content}](${href})` : content;
  },
});
turndown.addRule('image', {
  filter: 'img',
  replacement: (_, node) => ('getAttribute' in node ? (node.getAttribute('alt') ?? '') : ''),
});
// GitHub's tables. turndown-plugin-gfm leaves a table without <th> as HTML, and those of Word have none.
turndown.addRule('cell', {
  filter: ['td', 'th'],
  replacement: content => ` ${oneLine(content).replaceAll('|', '\\|')} |`,
});
turndown.addRule('row', { filter: 'tr', replacement: content => `\n|${content}` });
turndown.addRule('table', {
  filter: 'table',
  replacement: content => {
    const lines = content.split('\n').filter(line => line.trim() !== '');
    const rows = lines.filter(line => line.startsWith('|'));
    const caption = lines.filter(line => !line.startsWith('|')).join('\n');
    const columns = (rows[0]?.match(/(?<!\\)\|/g)?.length ?? 1) - 1;
    return `\n\n${[caption, '', rows[0], `|${' --- |'.repeat(columns)}`, ...rows.slice(1)].join('\n').trim()}\n\n`;
  },
});

const oneLine = (text: string): string =>
  text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '')
    .join(' ');

/** Headings, lists, tables, links and code of HTML as Markdown. */
export const toMarkdown = (html: string): string => turndown.turndown(html);
