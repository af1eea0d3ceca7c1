"""Words of small talk, by what they do; in the languages that people write to it most.

All are case-folded, without accents and apostrophes, and with doubled letters made single, as
``memory.planner`` compares them. They are classes to be put together, not lines to be matched.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_REPEATED: Final = re.compile(r"(.)\1+")
_APOSTROPHES: Final = re.compile("['\u2019\u02bc`]")


def plain(text: str) -> str:
    """*text* without case, accents and apostrophes: "D\u00edas" is "dias"."""
    text = unicodedata.normalize("NFKD", text.casefold().replace("\u0142", "l"))
    letters = "".join(char for char in text if not "\u0300" <= char <= "\u036f")
    return unicodedata.normalize("NFC", _APOSTROPHES.sub("", letters))


def folded(text: str) -> str:
    """*text* as the words here are written: ``plain``, and "Heyyy" is "hey"."""
    return _REPEATED.sub(r"\1", plain(text))


def _words(text: str) -> frozenset[str]:
    return frozenset(folded(text).split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(folded(phrase).strip() for phrase in text.split("/"))


SOCIAL: Final = {
    "thanks": _words("""
thanks thank thx thnx tnx ty tysm tks cheers appreciated appreciate grateful lifesaver kudos
danke dank dankeschon merci remerciements gracias grazie obrigado obrigada bedankt dankjewel dzieki
dziekuje dziekowac spasibo спасибо дякую tesekkurler sagol tack takk tak kiitos multumesc mersi
"""),
    "greeting": _words("""
hi hello hey sup wassup hiya heya howdy yo greetings morning evening abend abends afternoon
goodmorning hai ello gday
hallo moin servus gruezi gruss grussgott tach guten hola buenas buenos saludos salut bonjour bonsoir
coucou ciao salve buongiorno buonasera ola oi bom boa hoi goedemorgen goedenavond czesc hej hejka
siema siemka witaj witam dobry привет здравствуйте здравствуй доброе добрый utro привіт merhaba
selam
gunaydin hejsan hei moi ahoj szia buna salam namaste
"""),
    "farewell": _words("""
bye goodbye byebye cya care bed tot notte vemos night goodnight gn farewell later laters brb bbl
gtg g2g afk nite
tschuss tschau ciaociao bis nacht feierabend wiedersehen adios luego noches chao hasta revoir
bientot nuit demain arrivederci buonanotte tchau noite doei welterusten dobranoc papa pa jutra
zobaczenia narazie пока свидания ночи gorusuruz
"""),
    "laughter": _words("""
lol lmao lmfao rofl kidding joking jk giggle teehee lel hilarious funny xd mdr ptdr jaja jajaja
kek hihi hehe haha lustig witzig
gracioso drole divertente smieszne kks
"""),
    "praise": _words("""
great awesome perfect excellent rock rocks legend star gold epic amazing brilliant wonderful
fantastic lovely cool nice neat sweet
super best good well done congrats congratulations bravo love kind clever smart helpful useful
impressive wow whoa bless proud ace woah yay hooray welcome magic magnificent glad happy fine
better terrific
genial toll klasse prima spitze wunderbar perfekt hervorragend schon gut hilft gern gerne bitte nada
perfecto bueno bien excelente estupendo fantastico maravilloso parfait excellent magnifique rien
perfetto bene benissimo ottimo perfeito otimo legal prego goed mooi leuk lekker swietnie super
fajnie dobrze doskonale pieknie отлично хорошо круто
"""),
    "acknowledgement": _words("""
ok okay oki okey okie k kk sure yes yep yeah yup ya yea no nope nah nay right exactly alright
understood gotcha noted understand whatever same ditto carry rather roger agreed agree true indeed
correct absolutely definitely totally
certainly obviously deal maybe perhaps possibly probably fair sense
ja jo jep nein klar alles genau stimmt einverstanden verstanden vielleicht machen passt
si claro vale entendido bueno quiza quizas exacto acuerdo oui non daccord accord compris marche
certo capito esatto forse sim nao claro entendi jasne tak nie dobra dobrze zgoda rozumiem pewnie
moze lecimy да нет ладно понятно конечно evet hayir tamam
"""),
    "apology": _words("""
sorry oops whoops apologies apologise apology regret forgive apologize typo nevermind distracted
pardon
entschuldigung entschuldige verzeihung perdon perdona disculpa desole desolee pardon scusa scusi
desculpa przepraszam sory извини извините
"""),
    "wish": _words("""
merry birthday christmas xmas enjoy journey trip safe dreams fingers crossed tgif appetit guten
easter holidays weekend holiday halloween luck
weihnachten geburtstag wochenende frohe frohes schones schonen navidad cumpleanos feliz finde noel
anniversaire joyeux joyeuse fetes buon natale natal swiat wesolych urodzin weekendu
"""),
    "reaction": _words("""
really seriously wow yawn zzz knock hurray boo dang gosh jeez jesus lord heavens whoa omg gosh
damn ugh hm hmm mh meh aw ah oh ooh uh uhm um er eh ouch yikes
phew weird strange odd interesting crazy wild funny terrible horrible unbelievable incredible
honestly surprising surprised curious wait
wirklich echt krass ach na oje verdad vaya vraiment serio davvero mesmo naprawde serio правда
"""),
    "mood": _words("""
tired bored boring sleepy outside mondays fridays tuesday wednesday thursday saturday sunday
exhausted hungry thirsty starving sad stressed excited lonely grumpy
rain raining rainy snow snowing sunny sun hot cold warm freezing melting windy weather storm
friday monday coffee lunch break
mude langweilig gelangweilt hunger durst regnet wetter schneit heiss kalt cansado cansada
aburrido aburrida hambre llueve calor frio fatigue fatiguee ennuie pleut chaud froid stanco noia
piove zmeczony zmeczona nudno nudze pada goraco zimno
"""),
    "play": _words("""
joke jokes riddle pun tale fun game games play erzahl raconte cuentame conte conta opowiedz laugh
entertain surprise sing poem limerick story bored chat
witz witze chiste chistes blague barzelletta piada zart dowcip
"""),
    "presence": _words("test testing ready back listening"),
}
"""Words that carry small talk, by what the line is taken for. The first that is met names it."""

OF_IT: Final = _words("""
name do there robot bot ai human real person machine computer alive sleep dream eat feel feelings
like
music colour color food movie book song favourite favorite hobby hobbies friend friends old age born
live from made creator job tired happy help work language languages speak able capable smart doing
going day up been new things mood roboter mensch heisst heissen schlafst hilfe kannst kannstdu
bist alt llamas
llama eres puedes hacer tal estas estais duermes appelles tappelles es peux faire vas dors va vous
chiami sei puoi fai dormi stai come voce faz pode heet kun doe gaat masz jestes robisz mozesz umiesz
nazywasz slychac gehts geht lauft дела зовут
""")

OF_ITS_LAST: Final = _words("""
repeat again retry rephrase reword simplify simpler simply shorter short shorten understand longer
long brief briefly
summarise summarize summary details detail elaborate explain clarify mean meaning continue keep more
expand english german french spanish italian polish japanese chinese bullet table example examples
nochmal nochmals wiederholen wiederhole wiederhol kurzer einfacher ausfuhrlicher genauer weiter
erklar erklare meinst deutsch englisch repite repetir otra explica explicar significa corto
mas sigue continua espanol ingles repete repeter encore reexplique explique resume plus court simple
anglais francais continue ripeti ancora spiega repita powtorz jeszcze wyjasnij krocej prosciej dalej
kontynuuj polsku angielsku
""")

LAST_SAID: Final = _words("""
did do have just say said saying ask asked asking tell told write wrote last previous message
messages question answer reply sentence before now second seconds minute ago moment i my me we
habe hast gerade eben gesagt gefragt geschrieben letzte letzten nachricht frage antwort ich mir
acabo acabas decir dije dijiste pregunte ultimo ultima mensaje pregunta he viens dire dis dit
demander demande dernier derniere message question je tu
""")

LIGHT: Final = _words("""
a an the this that thats it its is are was so very too much many lot lots all any just only really
of for to and but or with at on in be am im ill id you your youre u ur yourself me let lets us again
now then today tonight not gimme set off bed work day well bonne merci tomorrow soon later next
time times moment minute sec second bit little one
another once please pls plz dude mate man bro buddy pal friend friends dear sunshine guys everyone
folks boss honey chat day talk talking think guess i do dont does doesnt not got get see know-how
hold go going ahead on keep still same here what how who why whats hows whos when where can could
would will ever say more if new year finally quick quickly some something else over too out off
makes made have wish try tried take took talked works working enough worries worry problem
problems about kind no such yet also have had
should need make tell give
der die das ist tag einen abend guten schonen schones es so sehr dir dich mir du dein und auch mal
schon noch heute morgen dann jetzt
bald viel vielen wir ein eine einen na doch das mich wie was wer gehen ja nur
el la lo los las es eso esto muy mucho muchas muchos tu te ti y que como quien hoy manana pronto un
una por para todo dia dias tarde tardes semana favor de
le les ce cest ca tres beaucoup toi te tu et que comment qui bien aujourdhui un une tout moi sil
plait vous bonne pour ton ta aide suis qui tes blague roule bon beau journee soiree
il lo molto mille che come chi tutto un una ti e muito muita tudo bem que com dank je wel erg hoe
bardzo wielkie ci cie to jest jak co kto sie no i za wszystko dzien dnia milego do pan pani na razie
очень большое за все как ты тебе что кто утро день
""")

SELF: Final = _words("""
i my mine our ours we us ich mein meine meinen meiner meinem unser unsere wir mir mi mis nuestro
nuestra yo mon ma mes nous notre nos je mio mia miei mie io meu minha eu mijn ik moj moja moje moich
mnie мой моя мое я мне
""")
"""A question with one of these asks of the user's life, whatever else is in it."""

YOU: Final = _words("""
you your youre yourself u ur du dich dir dein deine bist hast kannst geht gehts tu te tal estas eres
puedes llamas usted ca va vas es peux vous toi appelles ti tuo sei stai puoi come va voce tudo je
jij
gaat ci cie sie masz jestes slychac mozesz ты тебя дела
""")

PHRASES: Final = _phrases("""
think so/hope so/guess so/same here/me too/you too/of course/no way/way to go/go on/go ahead/hold on
/my bad/my god/my goodness/oh my/never mind/figured it out/forget it/one moment/one sec/right back
/lets start/lets go/lets do/ready when/what a/let me think/let me see/no problem/another one/carry
on/take care/a good one/sure thing/not now/all set/ca roule/why/whats new/time for/off to/no
worries/dont worry
/thing on/all good/all right/got it/i see/it works/keep going/take your time/by the way/whats up
/hows it going/how are/how is it going/can you hear/good point/didnt expect that/not really/why not
/how so/how come/and then/then what/so what/what else/what now/and now/you are there/talk to you
/talk soon/catch you/see you/see ya/see u/makes sense/that will be all/thats it/thats all/works
for me/help me/no idea/no clue/not sure/up to you/well said/spot on/point taken/for now/long time
no
/wie gehts/wie geht es/wie lauft/und dann/na dann/weiss nicht/kein problem/keine ahnung/mach weiter
/ach so/que tal/como estas/como va/y luego/no pasa nada/de nada/claro que si/por supuesto/no se
/ca va/ca marche/comment ca/de rien/pas de souci/pas de probleme/bien sur/et apres/et alors/je vois
/vas y/come va/come stai/di niente/va bene/tudo bem/de nada/hoe gaat/jak sie masz/co slychac
/nie ma za co/nie ma sprawy/no dobra/no i/jak leci/co tam/как дела/не за что
""")
"""Words that are small talk only together."""

ASKING: Final = _words("""
what which who whose whom where when why how whats whos wheres hows is are was were am do does did
can could would will should has
wer wo wann warum wie welche welcher welches wem wen wessen wieviel
que quien cual cuando donde cuanto cuantos qui quoi quel quelle quand ou combien pourquoi comment
che chi quale dove quanto perche quem qual onde porque wat waar wanneer hoe
kto co gdzie kiedy dlaczego jak ile czy który jaki jaka jakie кто что где когда почему как
""")
"""A line that begins with one may be a question without its mark."""
