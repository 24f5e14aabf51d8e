/**
 * Words that begin sentences, and are no names there. They also tell which language a text is in. By language: articles,
 * pronouns, prepositions, conjunctions, auxiliaries and common adverbs.
 */
const WORDS: Record<string, string> = {
  english: `a about above according across after again against all almost along already also although always among an and
    another any anyone anything are around as at away back be because been before behind being below besides between beyond
    both but by can cannot could currently despite did do does done during each earlier either else even every everyone
    everything except few finally first for former from further get given had has have having he hence her here his how
    however i if in indeed initially instead into is it its itself just last later least less like likewise many may
    meanwhile might more moreover most much must my near nearly neither never nevertheless next no nobody none nor not
    nothing now of off often on once one only onto or other others otherwise our out over overall own per perhaps please
    rather recently same second see several shall she should similarly since so some someone something sometimes soon
    still such than that the their them then there thereafter therefore these they third this those though three through
    throughout thus to today together tomorrow too toward towards two under unlike until up upon us usually very via was
    we were what when where whereas whether which while who whom whose why will with within without would yes yesterday
    yet you your note example figure table section chapter page appendix introduction conclusion summary abstract
    references copyright monday tuesday wednesday thursday friday saturday sunday january february march april june july
    august september october november december mr mrs ms dr prof sir dear hello hi thanks`,
  german: `ab aber alle allem allen aller alles als also am an andere anderen auch auf aus bei beim bereits bis da dabei
    dadurch daher damit danach dann daran darauf darin darum das dass davon dazu dem den denn der deren des dessen deshalb
    die dies diese diesem diesen dieser dieses doch dort du durch ein eine einem einen einer eines einige er es etwa etwas
    für ganz gegen hat hatte hatten haben hier hinter ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in indem ins ist
    jede jedem jeden jeder jedes jedoch jetzt kann kein keine können man manche mehr mein mit nach nachdem neben nicht
    nichts noch nun nur ob obwohl oder ohne sehr sein seine seinem seinen seiner seit sich sie sind so sobald solche
    sondern sowie über um und uns unser unter viele vom von vor war waren warum was weil welche wenn wer werden wie wieder
    wir wird wo wurde wurden während zu zum zur zwar zwei zwischen montag dienstag mittwoch donnerstag freitag samstag
    sonntag januar februar märz mai juni juli oktober dezember herr frau seite kapitel abbildung tabelle`,
  french: `afin ainsi alors après au aucun aussi autre aux avait avant avec avoir car ce ceci cela celle celui cependant ces
    cet cette ceux chaque chez comme comment contre d dans de depuis des deux donc dont du elle elles en encore enfin entre
    est et était été être eux fut furent grâce ici il ils je l la le les leur leurs lors lorsque lui ma mais malgré même
    mes moins mon n ne ni nos notre nous on ont ou où par parce pendant peu plus pour pourquoi puis qu quand que quel
    quelle qui quoi s sa sans se selon ses si son sont sous souvent sur ta tandis tout toute toutes tous très tu un une
    vers voici voilà vos votre vous y lundi mardi mercredi jeudi vendredi samedi dimanche janvier février mars avril juin
    juillet août septembre octobre novembre décembre monsieur madame`,
  spanish: `a además ahora al algo algunos ante antes aquel aquella aquí así aún aunque bajo cada casi como con contra cual
    cuando cuya de del desde después donde dos durante e el él ella ellas ellos en entonces entre era eran es esa ese eso
    esta está estaba estas este esto estos fue fueron ha había han hasta hay la las le les lo los luego más me mi mientras
    mucho muchos muy ni no nos nosotros o otra otro para pero poco por porque pues que qué quien se según ser si sí sido
    sin sino sobre son su sus también tan tanto tras tu un una uno unos usted y ya yo lunes martes miércoles jueves viernes
    sábado domingo enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre señor señora`,
  italian: `a ad agli ai al alla alle allo allora anche ancora anni aveva c che chi ci come con contro così cui da dai dal
    dalla dalle degli dei del dell della delle dello dentro di dopo dove due durante e è ed era erano essere fino fra fu
    furono già gli ha hanno i il in infatti inoltre io l la le lei li lo loro lui ma mentre mi molti molto ne nei nel nella
    nelle nello noi non nostro o ogni oltre oppure ora per perché però più poi presso prima qual quale quando quanto quella
    quello questa queste questi questo qui quindi se secondo sempre senza si sia sono sotto stata stato su sua sue sugli
    sui sul sulla suo suoi tra tutti tutto un una uno vi voi gennaio febbraio marzo aprile maggio giugno luglio settembre
    ottobre dicembre signor signora`,
  portuguese: `a ainda além algum alguns ante antes ao aos apenas após aquela aquele aqui as assim até cada com como contra
    da das de dela dele depois desde do dois dos durante e é ela elas ele eles em embora enquanto entre era eram essa esse
    esta está estava este eu foi foram há isso isto já la lhe mais mas me mesmo meu minha muito muitos na não nas nem no nos
    nós nossa nosso num numa o onde os ou outra outro para pela pelas pelo pelos pois por porque portanto quando que quem se
    segundo sem sempre ser seu seus si sido sobre são sua suas também tanto tem todo todos tudo um uma umas uns você
    janeiro fevereiro março junho julho setembro outubro dezembro senhor senhora`,
  dutch: `aan achter al alle als altijd ander bij binnen boven buiten daar daarna dan dat de deze die dit doch doen door dus
    een eerst en er ervan eveneens geen had hadden heeft hebben heel hem hen het hier hij hoe hun iedere iemand ik in indien
    is ja je jullie kan konden kunnen later maar me meer men met mijn moet na naar naast nadat niet niets nog nooit nu of om
    omdat onder ons ook op over reeds sinds soms te tegen ten ter tijdens toch toen tot tussen uit u van vanaf vele veel via
    volgens voor voordat waar waarom wanneer want waren was wat we wel werd werden wie wij worden wordt zal ze zelf zich zij
    zijn zo zoals zonder zou maandag dinsdag woensdag donderdag vrijdag zaterdag zondag`,
};

/** By word, the languages that it is a stop word of. */
const LANGUAGES_OF = new Map<string, string[]>();
for (const [language, words] of Object.entries(WORDS)) {
  for (const word of words.split(/\s+/))
    LANGUAGES_OF.set(word, [...(LANGUAGES_OF.get(word) ?? []), language]);
}

/** Stop words of a language, and of English, whose words stand in texts of every language. */
export type StopWords = (word: string) => boolean;

/** @param language one that is not known here has the words of all */
export function stopWordsOf(language: string): StopWords {
  if (!(language in WORDS)) return word => LANGUAGES_OF.has(word);
  return word => {
    const languages = LANGUAGES_OF.get(word);
    return languages !== undefined && (languages.includes(language) || languages.includes('english'));
  };
}

/** Hits below which a text does not tell its language. */
const FEWEST_HITS = 3;

/**
 * The language that most of the words say that the text is in.
 *
 * @param words in lower case
 * @param otherwise where they do not say enough
 */
export function languageOf(words: Iterable<string>, otherwise: string): string {
  const hits = new Map<string, number>();
  for (const word of words) {
    for (const language of LANGUAGES_OF.get(word) ?? []) hits.set(language, (hits.get(language) ?? 0) + 1);
  }
  let best = otherwise;
  let most = Math.max(FEWEST_HITS - 1, hits.get(otherwise) ?? 0);
  for (const [language, count] of hits) if (count > most) [best, most] = [language, count];
  return best;
}
