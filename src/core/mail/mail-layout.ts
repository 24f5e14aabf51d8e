import { type Letter, oneLine } from './mail-letter.js';

/** What a tenant's e-mails look like. */
export interface Branding {
  companyName: string;
  /** `#rrggbb`. */
  primaryColor: string;
  /** https alone. */
  logoUrl: string | null;
}

/** Of e-mails that are no tenant's. */
export const INSTALLATION: Branding = { companyName: 'Enclave', primaryColor: '#1f3a5f', logoUrl: null };

/**
 * The branding of a tenant, as far as it can be used: whatever stands in its row, only a colour comes out as a colour,
 * and only an address of a picture as one.
 */
export function toBranding(displayName: string, stored: unknown): Branding {
  const { company_name, primary_color, logo_url } = (stored ?? {}) as Record<string, unknown>;
  const name = typeof company_name === 'string' ? oneLine(company_name) : '';
  const isColor = typeof primary_color === 'string' && /^#[0-9a-f]{6}$/i.test(primary_color);
  return {
    companyName: name || oneLine(displayName) || INSTALLATION.companyName,
    primaryColor: isColor ? primary_color : INSTALLATION.primaryColor,
    logoUrl: typeof logo_url === 'string' ? httpsUrl(logo_url) : null,
  };
}

export function toText(letter: Letter, { companyName }: Branding): string {
  const { paragraphs, quote, link, token, notes } = letter;
  const blocks = [
    ...paragraphs,
    ...(quote ? [quote.replace(/^/gm, '> ')] : []),
    ...(link ? [`${link.label}:\n${link.url}`] : []),
    ...(token ? [`With the API, use this token:\n${token}`] : []),
    ...(notes.length > 0 ? [notes.join('\n')] : []),
    `-- \n${companyName}`,
  ];
  return `${blocks.join('\n\n')}\n`;
}

/** Tables and inline styles: the HTML that mail programs understand. Everything in it is escaped. */
export function toHtml(letter: Letter, branding: Branding): string {
  const { companyName, primaryColor, logoUrl } = branding;
  const name = escape(companyName);
  const head = logoUrl
    ? `<img src="${escape(logoUrl)}" alt="${name}" height="40" style="display:block;border:0;height:40px">`
    : `<span style="font-size:18px;font-weight:bold">${name}</span>`;
  const { paragraphs, quote, link, token, notes } = letter;
  const body = [
    ...paragraphs.map(text => `<p style="margin:0 0 16px">${escape(text)}</p>`),
    ...(quote
      ? [
          `<blockquote style="margin:0 0 16px;padding:0 0 0 12px;border-left:3px solid #d0d5dd;color:#475467">${escape(
            quote,
          ).replaceAll('\n', '<br>')}</blockquote>`,
        ]
      : []),
    ...(link
      ? [
          `<p style="margin:24px 0"><a href="${escape(link.url)}" style="display:inline-block;padding:12px 20px;` +
            `border-radius:6px;background:${primaryColor};color:${readableOn(primaryColor)};text-decoration:none;` +
            `font-weight:bold">${escape(link.label)}</a></p>`,
        ]
      : []),
    ...(token
      ? [
          `<p style="margin:0 0 16px;font-size:13px;color:#475467">With the API, use this token:<br>` +
            `<code style="word-break:break-all">${escape(token)}</code></p>`,
        ]
      : []),
    ...notes.map(text => `<p style="margin:0 0 8px;font-size:13px;color:#475467">${escape(text)}</p>`),
  ].join('\n');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(letter.subject)}</title>
</head>
<body style="margin:0;padding:24px;background:#f2f4f7;font-family:Helvetica,Arial,sans-serif;font-size:15px;line-height:1.5;color:#101828">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0"><tr><td align="center">
<table role="presentation" width="560" cellpadding="0" cellspacing="0" style="max-width:100%;background:#ffffff;border-top:4px solid ${primaryColor}">
<tr><td style="padding:24px 32px 0">${head}</td></tr>
<tr><td style="padding:24px 32px">
${body}
</td></tr>
<tr><td style="padding:0 32px 24px;font-size:13px;color:#475467">${name}</td></tr>
</table>
</td></tr></table>
</body>
</html>
`;
}

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

const escape = (text: string): string => text.replace(/[&<>"']/g, character => ENTITIES[character] as string);

function httpsUrl(text: string): string | null {
  return URL.canParse(text) && new URL(text).protocol === 'https:' ? new URL(text).href : null;
}

/** Black or white, whichever stands out more: the relative luminance of WCAG 2.2. */
function readableOn(color: string): string {
  const [red, green, blue] = [1, 3, 5].map(start => {
    const share = Number.parseInt(color.slice(start, start + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? '#000000' : '#ffffff';
}
