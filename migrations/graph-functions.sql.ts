/** Entities or relations, and their mentions. */
interface Mentioned {
  things: string;
  mentions: string;
  /** Of the mentions: what they mention. */
  id: string;
  /** Of the knowledge base: how many things there are. */
  count: string;
}

const ENTITIES: Mentioned = {
  things: 'graph_entities',
  mentions: 'graph_entity_mentions',
  id: 'entity_id',
  count: 'entity_count',
};
const RELATIONS: Mentioned = {
  things: 'graph_relations',
  mentions: 'graph_relation_mentions',
  id: 'relation_id',
  count: 'relation_count',
};

/** A cascade from the register of tenants: the knowledge bases are going, too. */
const IN_TENANT = `(nullif(current_setting('app.tenant_id', true), '') IS NOT NULL)`;

/**
 * Does its work with what everybody mentions in sight: whoever changes a document may not see all that the others say of the
 * same. Nothing of them leaves the database.
 */
const seeingAll = (body: string) => `
        PERFORM set_config('app.access', 'all', true);
        ${body}
        PERFORM set_config('app.access', coalesce(access_before, ''), true);`;

/** Asked for each thing by its key: an EXISTS the planner might answer from a list of all mentions that there are. */
const isMentioned = ({ mentions, id }: Mentioned, condition: string) =>
  `coalesce((SELECT true FROM ${mentions} m WHERE m.${id} = t.id AND ${condition} LIMIT 1), false)`;

/**
 * Everything below runs under the lock of the knowledge base, which whoever changes chunks or the restriction of a document
 * takes for its statistics.
 */
const followMentions = (mentioned: Mentioned): string[] => {
  const { things, mentions, id } = mentioned;
  return [
    `CREATE FUNCTION open_mentioned_${things}() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
     BEGIN
       UPDATE ${things} SET open = true
       WHERE NOT open AND id IN (SELECT ${id} FROM changed WHERE NOT restricted);
       RETURN NULL;
     END $$`,
    `CREATE TRIGGER ${mentions}_opened AFTER INSERT ON ${mentions} REFERENCING NEW TABLE AS changed
       FOR EACH STATEMENT EXECUTE FUNCTION open_mentioned_${things}()`,
    // What nobody mentions any more is gone; where that is a whole knowledge base, its cascade does it.
    `CREATE FUNCTION remove_unmentioned_${things}() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
     DECLARE
       access_before text := current_setting('app.access', true);
     BEGIN
       IF NOT ${IN_TENANT} THEN
         RETURN NULL;
       END IF;
       IF EXISTS (SELECT FROM changed JOIN knowledge_bases kb ON kb.id = changed.kb_id) THEN
         ${seeingAll(`
         DELETE FROM ${things} t WHERE id IN (SELECT ${id} FROM changed)
           AND NOT ${isMentioned(mentioned, 'true')};
         UPDATE ${things} t SET open = false WHERE open AND id IN (SELECT ${id} FROM changed WHERE NOT restricted)
           AND NOT ${isMentioned(mentioned, 'NOT m.restricted')};`)}
       END IF;
       RETURN NULL;
     END $$`,
    `CREATE TRIGGER ${mentions}_removed AFTER DELETE ON ${mentions} REFERENCING OLD TABLE AS changed
       FOR EACH STATEMENT EXECUTE FUNCTION remove_unmentioned_${things}()`,
  ];
};

const countThings = ({ things, count }: Mentioned): string[] => [
  `CREATE FUNCTION count_${things}() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
   BEGIN
     IF ${IN_TENANT} THEN
       UPDATE knowledge_bases kb SET ${count} = ${count} + counted.change
       FROM (SELECT kb_id, CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END * count(*)::integer AS change
             FROM changed GROUP BY kb_id) AS counted
       WHERE kb.id = counted.kb_id;
     END IF;
     RETURN NULL;
   END $$`,
  `CREATE TRIGGER ${things}_counted_in AFTER INSERT ON ${things} REFERENCING NEW TABLE AS changed
     FOR EACH STATEMENT EXECUTE FUNCTION count_${things}()`,
  `CREATE TRIGGER ${things}_counted_out AFTER DELETE ON ${things} REFERENCING OLD TABLE AS changed
     FOR EACH STATEMENT EXECUTE FUNCTION count_${things}()`,
];

const restrict = (mentioned: Mentioned): string => {
  const { things, mentions, id } = mentioned;
  return `
        UPDATE ${mentions} SET restricted = NEW.restricted WHERE document_id = NEW.id;
        UPDATE ${things} t SET open = NOT t.open
        WHERE id IN (SELECT ${id} FROM ${mentions} WHERE document_id = NEW.id)
          AND open <> ${isMentioned(mentioned, 'NOT m.restricted')};`;
};

/** What keeps a graph in step with the chunks that it was made from, whoever changes those. */
export const graphFunctions: string[] = [
  ...[ENTITIES, RELATIONS].flatMap(mentioned => [...followMentions(mentioned), ...countThings(mentioned)]),
  `CREATE FUNCTION copy_restriction_to_mentions() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
   DECLARE
     access_before text := current_setting('app.access', true);
   BEGIN
     ${seeingAll([ENTITIES, RELATIONS].map(restrict).join(''))}
     RETURN NULL;
   END $$`,
  `CREATE TRIGGER documents_restriction_of_mentions AFTER UPDATE OF restricted ON documents
     FOR EACH ROW WHEN (OLD.restricted IS DISTINCT FROM NEW.restricted)
     EXECUTE FUNCTION copy_restriction_to_mentions()`,
];
