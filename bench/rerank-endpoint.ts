/** Asks a Cohere- or Jina-compatible endpoint (`POST {baseUrl}/rerank`) for the relevance of each text. */
export function rerankEndpoint(baseUrl: string, model: string, apiKey: string | undefined) {
  return async (query: string, documents: string[]): Promise<number[]> => {
    const response = await fetch(`${baseUrl}/rerank`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(apiKey && { authorization: `Bearer ${apiKey}` }) },
      body: JSON.stringify({ model, query, documents }),
    });
    if (!response.ok) throw new Error(`The rerank model answered ${response.status}.`);
    const { results } = (await response.json()) as {
      results: Array<{ index: number; relevance_score: number }>;
    };
    const relevance = documents.map(() => 0);
    for (const { index, relevance_score } of results) relevance[index] = relevance_score;
    return relevance;
  };
}
