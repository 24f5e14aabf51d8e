/** Pictures that models which see take (the list of OpenAI's), and that Docling takes. */
export const VISION_TYPES: readonly string[] = ['image/png', 'image/jpeg', 'image/webp', 'image/gif'];
export const DOCLING_PICTURES: readonly string[] = [
  'image/png',
  'image/jpeg',
  'image/webp',
  'image/bmp',
  'image/tiff',
];

export const hasSound = (mimeType: string): boolean => /^(?:audio|video)\//.test(mimeType);

/**
 * Whether a type that no parser of this process reads is taken all the same, because a service is configured that does.
 *
 * @param readers the services that the tenant has
 * @param mimeType as it was found by content: audio, video or a picture
 */
export function isReadRemotely(
  { transcription, vision, docling }: Record<'transcription' | 'vision' | 'docling', object | null>,
  mimeType: string,
): boolean {
  return (
    (transcription !== null && hasSound(mimeType)) ||
    (vision !== null && VISION_TYPES.includes(mimeType)) ||
    (docling !== null && DOCLING_PICTURES.includes(mimeType))
  );
}
