import type { Page } from '../../foundation/http/pagination.js';
import type { ModelEntry } from './model-entry.js';
import type { ListModels } from './models.dto.js';

/** Few enough to be sorted here: what a tenant has, and what the platform shares with it, stand in two tables. */
export function pageOf<Entry extends ModelEntry>(entries: readonly Entry[], query: ListModels): Page<Entry> {
  const { model_type: type, provider, status, page, page_size: size, sort } = query;
  const search = query.search?.toLowerCase();
  const found = entries.filter(
    entry =>
      (!type || entry.modelType === type) &&
      (!provider || entry.provider === provider) &&
      (!status || entry.status === status) &&
      (!search ||
        entry.displayName.toLowerCase().includes(search) ||
        entry.modelName.toLowerCase().includes(search)),
  );
  const descending = sort.startsWith('-') ? -1 : 1;
  const by = KEYS[sort.replace(/^-/, '')] ?? KEYS['created_at'];
  const ordered = found.toSorted((a, b) => {
    const [first, second] = [by!(a), by!(b)];
    const order = first < second ? -1 : first > second ? 1 : a.id < b.id ? -1 : 1;
    return order * descending;
  });
  return { items: ordered.slice((page - 1) * size, page * size), total: found.length };
}

const KEYS: Record<string, (entry: ModelEntry) => string | number> = {
  created_at: ({ createdAt }) => createdAt.getTime(),
  display_name: ({ displayName }) => displayName.toLowerCase(),
  used_tokens: ({ usedTokens }) => usedTokens,
};
