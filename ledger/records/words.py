"""The words of a printed record in the languages that are built in; what a site's policy says comes in its own.

Another language than these gets English labels. No sentence here depends on a visitor or a site; words for what the
ledger calls by a name are in records/terms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ledger.records.terms import Table

LANGUAGES = ("en", "ru", "kk")

WORDS: Table = {
    # The page
    "title": ("Record of consent", "Запись о согласии", "Келісім туралы жазба"),
    "lead": (
        "What was asked, what was answered, and the proof that the answer stands in the log as it was given.",
        "О чём спросили, что ответили и доказательство того, что ответ записан в журнале так, как он был дан.",
        "Не сұралды, не жауап берілді және жауаптың журналда берілген күйінде тұрғанының дәлелі.",
    ),
    "printed": ("Made", "Составлено", "Жасалған уақыты"),
    "glance": ("At a glance", "Коротко", "Қысқаша"),
    "operator": ("Operator", "Оператор", "Оператор"),
    "bin": ("BIN", "БИН", "БСН"),
    "address": ("Address", "Адрес", "Мекенжайы"),
    "subject": ("Data subject", "Субъект данных", "Дерек субъектісі"),
    "pseudonymous": (
        "Pseudonymous. No name is known here, only a random number that the site gave to a browser:",
        "Под псевдонимом. Имя здесь неизвестно, только случайный номер, который сайт дал браузеру:",
        "Бүркеншік атпен. Мұнда аты-жөні белгісіз, тек сайт браузерге берген кездейсоқ нөмір:",
    ),
    "for_account": (
        "The choice was made for every browser of an account, known here by a keyed hash:",
        "Выбор сделан для всех браузеров учётной записи, известной здесь по ключевому хешу:",
        "Таңдау тіркелгінің барлық браузері үшін жасалған, ол мұнда кілтті хеш арқылы белгілі:",
    ),
    "happened": ("What happened", "Что произошло", "Не болды"),
    "counts": ("Counts since", "Действует с", "Күшіне енген уақыты"),
    "recorded": ("Recorded", "Записано", "Жазылған уақыты"),
    "by_ledger": ("by the ledger's clock", "по часам журнала", "журнал сағаты бойынша"),
    "place": ("Place and language", "Место и язык", "Орны мен тілі"),
    "policy": ("Policy", "Политика", "Саясат"),
    "version": ("version", "версия", "нұсқа"),
    "cited": ("cited by the choice", "указана при выборе", "таңдауда көрсетілген"),
    "was_in_force": (
        "in force at that time; the choice itself cites none",
        "действовала в то время; в самом выборе версия не указана",
        "сол кезде күшінде болған; таңдаудың өзінде көрсетілмеген",
    ),
    "no_policy": ("no policy was in force", "политика не действовала", "күшінде саясат болмаған"),
    "term": ("Term", "Срок", "Мерзімі"),
    "until": ("until", "до", "мына уақытқа дейін:"),
    "open_term": ("until a later choice", "до следующего выбора", "келесі таңдауға дейін"),
    "third_parties": ("Passed to third parties", "Передача третьим лицам", "Үшінші тұлғаларға беру"),
    "cross_border": ("Transfer across the border", "Трансграничная передача", "Трансшекаралық беру"),
    "publication": (
        "Spread in public sources",
        "Распространение в общедоступных источниках",
        "Жалпыға қолжетімді көздерде тарату",
    ),
    "data": ("Data", "Данные", "Деректер"),
    "yes": ("Yes", "Да", "Иә"),
    "no": ("No", "Нет", "Жоқ"),
    "not_stated": ("not stated in the policy", "в политике не указано", "саясатта көрсетілмеген"),
    "laws": ("Laws named", "Названные законы", "Аталған заңдар"),
    "facts_of_granted": (
        "These rows are about what was allowed.",
        "Эти строки относятся к тому, что было разрешено.",
        "Бұл жолдар рұқсат етілгенге қатысты.",
    ),
    "facts_of_asked": (
        "Nothing was allowed: these rows say what the question was about.",
        "Ничего не разрешено: эти строки говорят, о чём был вопрос.",
        "Ештеңеге рұқсат берілмеді: бұл жолдар сұрақтың не туралы болғанын көрсетеді.",
    ),
    "wall": (
        "Access to the site was made conditional on this choice.",
        "Доступ к сайту был обусловлен этим выбором.",
        "Сайтқа кіру осы таңдауға байланысты болды.",
    ),
    "signals": ("Signals", "Сигналы", "Сигналдар"),
    "original": (
        "The row of the other system, as it stood there",
        "Строка другой системы, как она там стояла",
        "Басқа жүйенің жолы, сол күйінде",
    ),
    # Purposes
    "purposes": ("What was asked and answered", "О чём спросили и что ответили", "Не сұралды және не жауап берілді"),
    "purpose": ("Purpose", "Цель", "Мақсат"),
    "answer": ("Answer", "Ответ", "Жауап"),
    "granted": ("Allowed", "Разрешено", "Рұқсат"),
    "denied": ("Not allowed", "Не разрешено", "Рұқсат жоқ"),
    "basis": ("Legal basis", "Правовое основание", "Құқықтық негіз"),
    "recipients": ("Recipients", "Получатели", "Алушылар"),
    "nobody": ("nobody is named", "никто не назван", "ешкім аталмаған"),
    "kept_for": ("Data kept for", "Срок хранения данных", "Деректі сақтау мерзімі"),
    "destination": ("Destination", "Страна назначения", "Баратын елі"),
    "accepted": ("Document accepted", "Принятый документ", "Қабылданған құжат"),
    "minimum_age": ("Minimum age", "Минимальный возраст", "Ең төменгі жас"),
    "unknown_purpose": (
        "This policy version has no such purpose.",
        "В этой версии политики такой цели нет.",
        "Саясаттың бұл нұсқасында мұндай мақсат жоқ.",
    ),
    "no_choice": (
        "This event holds no choice.",
        "В этом событии нет выбора.",
        "Бұл оқиғада таңдау жоқ.",
    ),
    # The notice
    "notice": ("The notice as it was shown", "Уведомление, каким его показали", "Хабарлама көрсетілген күйінде"),
    "no_notice": (
        "No picture or text of the notice is on record with this event.",
        "При этом событии не сохранено ни изображение, ни текст уведомления.",
        "Бұл оқиғада хабарламаның суреті де, мәтіні де сақталмаған.",
    ),
    "notice_is_policy": (
        "What was shown is the policy document itself, in the version named above.",
        "Показан сам документ политики в версии, названной выше.",
        "Жоғарыда аталған нұсқадағы саясат құжатының өзі көрсетілген.",
    ),
    "notice_lost": (
        "The document with this hash is not on this server any more.",
        "Документа с этим хешем на этом сервере больше нет.",
        "Осы хеші бар құжат бұл серверде жоқ.",
    ),
    "controls": ("Buttons", "Кнопки", "Түймелер"),
    "used": ("used", "нажата", "басылды"),
    "preset": ("Set beforehand", "Отмечено заранее", "Алдын ала белгіленген"),
    "layout": ("Layout", "Расположение", "Орналасуы"),
    "refusing": ("Refusing", "Отказ", "Бас тарту"),
    "sha256": ("SHA-256", "SHA-256", "SHA-256"),
    # Cookies
    "cookies": ("Cookies and other storage", "Файлы cookie и другое хранение", "Cookie файлдары және басқа сақтау"),
    "no_cookies": (
        "The policy declares none for these purposes.",
        "Для этих целей политика их не объявляет.",
        "Саясат бұл мақсаттар үшін оларды жарияламайды.",
    ),
    "name": ("Name", "Имя", "Атауы"),
    "meaning": ("What it does", "Что делает", "Не істейді"),
    "lifetime": ("Lifetime", "Срок жизни", "Өмір сүру мерзімі"),
    "whose": ("Whose", "Чей", "Кімдікі"),
    "first": ("the site's", "сайта", "сайттікі"),
    "third": ("a third party's", "третьего лица", "үшінші тұлғанікі"),
    "session": ("until the browser closes", "до закрытия браузера", "браузер жабылғанша"),
    "persistent": ("no period is named", "срок не назван", "мерзімі аталмаған"),
    "unused_for": ("when unused for", "если не используется", "пайдаланылмаса"),
    # Rights
    "rights": ("Withdrawing and asking", "Отзыв и обращения", "Қайтарып алу және жүгіну"),
    "how_to_withdraw": ("How to withdraw", "Как отозвать", "Қалай қайтарып алуға болады"),
    "withdraw_text": (
        "At any time, in the consent settings of the site or through the contacts below. What was done before stays "
        "lawful.",
        "В любое время: в настройках согласия на сайте или через контакты ниже. Сделанное до отзыва остаётся законным.",
        "Кез келген уақытта: сайттың келісім баптауларында немесе төмендегі байланыстар арқылы. Оған дейін жасалған "
        "әрекеттер заңды болып қалады.",
    ),
    "barred": ("Cannot be withdrawn", "Не может быть отозвано", "Қайтарып алуға болмайды"),
    "contacts": ("Contacts", "Контакты", "Байланыстар"),
    "authority": ("Where to complain", "Куда пожаловаться", "Қайда шағымдануға болады"),
    "answered_within": ("Requests are answered within", "Срок ответа на обращение", "Өтінішке жауап беру мерзімі"),
    # Timeline
    "timeline": ("Every choice of this visitor", "Все выборы этого посетителя", "Осы келушінің барлық таңдауы"),
    "entry": ("Entry", "Запись", "Жазба"),
    "when": ("When", "Когда", "Қашан"),
    "choice": ("Choice", "Выбор", "Таңдау"),
    "after": ("What held after it", "Что действовало после", "Одан кейін не күшінде болды"),
    "this_record": ("this record", "эта запись", "осы жазба"),
    "other_browser": (
        "in another browser of the account",
        "в другом браузере учётной записи",
        "тіркелгінің басқа браузерінде",
    ),
    "account": ("for the account", "для учётной записи", "тіркелгі үшін"),
    "erased": (
        "Erased: nothing of it is kept but that it was there.",
        "Стёрто: от него остался лишь факт, что оно было.",
        "Өшірілген: оның болғанынан басқа ештеңе сақталмаған.",
    ),
    "left_out": (
        "older events are not shown here",
        "более ранних событий здесь не показано",
        "ертерек оқиға мұнда көрсетілмеген",
    ),
    "everything_optional": ("every optional purpose", "все необязательные цели", "барлық міндетті емес мақсат"),
    "conflict": (
        "this browser and the account differ",
        "браузер и учётная запись расходятся",
        "браузер мен тіркелгі әртүрлі",
    ),
    # Proof
    "proof": ("The proof", "Доказательство", "Дәлел"),
    "proof_text": (
        "The receipt below is the evidence; this page is made from it. A browser that runs the page's script checks it "
        "here, without any connection. So does the command:",
        "Доказательство — квитанция ниже; эта страница составлена по ней. Браузер, выполняющий сценарий страницы, "
        "проверяет её здесь же, без всякого соединения. То же делает команда:",
        "Дәлел — төмендегі түбіртек; бұл бет соның негізінде жасалған. Беттің сценарийін орындайтын браузер оны осы "
        "жерде, ешқандай байланыссыз тексереді. Мына команда да солай істейді:",
    ),
    "log": ("Log", "Журнал", "Журнал"),
    "position": ("Position", "Позиция", "Орны"),
    "leaf": ("Leaf hash", "Хеш записи", "Жазба хеші"),
    "checkpoint": ("Checkpoint", "Контрольная точка", "Бақылау нүктесі"),
    "log_key": ("Key of the log", "Ключ журнала", "Журнал кілті"),
    "key_caution": (
        "This key was put in by the server that made the page. Compare it with a copy from elsewhere: a contract, an "
        "auditor, your own notes.",
        "Этот ключ вписал сервер, который составил страницу. Сравните его с копией из другого места: из договора, от "
        "аудитора, из своих записей.",
        "Бұл кілтті бетті жасаған сервер қойды. Оны басқа жерден алынған көшірмемен салыстырыңыз: шарттан, аудитордан "
        "немесе өз жазбаңыздан.",
    ),
    "check_again": ("Check again", "Проверить снова", "Қайта тексеру"),
    "no_proof_yet": (
        "No checkpoint covers the entry yet. Ask for the page again in a moment.",
        "Контрольной точки для этой записи ещё нет. Запросите страницу чуть позже.",
        "Бұл жазбаны қамтитын бақылау нүктесі әлі жоқ. Бетті сәл кейінірек сұраңыз.",
    ),
    "receipt": ("The receipt", "Квитанция", "Түбіртек"),
    "unchecked": (
        "Not checked yet: open this file in a browser",
        "Ещё не проверено: откройте этот файл в браузере",
        "Әлі тексерілмеген: бұл файлды браузерде ашыңыз",
    ),
    "verified": ("Verified", "Подтверждено", "Расталды"),
    "failed": ("Failed: do not rely on it", "Не подтверждено: не полагайтесь на неё", "Расталмады: оған сенбеңіз"),
    "unproven": ("Not proven", "Не доказано", "Дәлелденбеген"),
    "unable": (
        "This browser cannot check Ed25519 signatures",
        "Этот браузер не умеет проверять подписи Ed25519",
        "Бұл браузер Ed25519 қолтаңбасын тексере алмайды",
    ),
    "verified_text": (
        "The log holds exactly this event, at this place.",
        "В журнале на этом месте записано именно это событие.",
        "Журналда осы орында дәл осы оқиға жазылған.",
    ),
    "receipt_says": (
        "What the receipt itself says; compare it with the page",
        "Что говорит сама квитанция; сравните со страницей",
        "Түбіртектің өзі не дейді; бетпен салыстырыңыз",
    ),
    "not_proven_by_it": (
        "It does not prove who the visitor is, nor that the page around it tells the truth: that is the operator's "
        "word.",
        "Она не доказывает, кто посетитель, и не доказывает, что страница вокруг неё правдива: это слово оператора.",
        "Ол келушінің кім екенін де, айналасындағы беттің шындығын да дәлелдемейді: бұл — оператордың сөзі.",
    ),
    "ok": ("ok", "верно", "дұрыс"),
    "not_checked": ("not checked", "не проверялось", "тексерілмеді"),
    "broken": ("failed", "неверно", "қате"),
}

_UNITS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "Y": (("year", "years"), ("год", "года", "лет"), ("жыл",)),
    "M": (("month", "months"), ("месяц", "месяца", "месяцев"), ("ай",)),
    "W": (("week", "weeks"), ("неделя", "недели", "недель"), ("апта",)),
    "D": (("day", "days"), ("день", "дня", "дней"), ("күн",)),
    "B": (("working day", "working days"), ("рабочий день", "рабочих дня", "рабочих дней"), ("жұмыс күні",)),
    "H": (("hour", "hours"), ("час", "часа", "часов"), ("сағат",)),
    "m": (("minute", "minutes"), ("минута", "минуты", "минут"), ("минут",)),
    "S": (("second", "seconds"), ("секунда", "секунды", "секунд"), ("секунд",)),
}


class Words:
    """The words of one language; of one that is not built in, English."""

    def __init__(self, language: str) -> None:
        base = language.partition("-")[0].lower()
        self.language = base if base in LANGUAGES else LANGUAGES[0]
        self._place = LANGUAGES.index(self.language)

    def __getitem__(self, key: str) -> str:
        return WORDS[key][self._place]

    def of(self, table: Table, key: str) -> str:
        """A word of another table; a key that it does not have stands for itself."""
        return table[key][self._place] if key in table else key

    def table(self, table: Table) -> dict[str, str]:
        return {key: texts[self._place] for key, texts in table.items()}

    def period(self, duration: str) -> str:
        """An ISO 8601 duration: `P12M` is 12 months, 12 месяцев, 12 ай. Or `15 working days`, as it stands."""
        if (working := re.fullmatch(r"(\d+) working days?", duration)) is not None:
            return f"{int(working[1])} {self._unit(int(working[1]), 'B')}"
        days, _, hours = duration.removeprefix("P").partition("T")
        found = re.findall(r"(\d+)([YMWD])", days) + [
            (number, "m" if unit == "M" else unit) for number, unit in re.findall(r"(\d+)([HMS])", hours)
        ]
        return " ".join(f"{int(number)} {self._unit(int(number), unit)}" for number, unit in found) or duration

    def _unit(self, number: int, unit: str) -> str:
        forms = _UNITS[unit][self._place]
        if self.language == "ru":
            if number % 10 == 1 and number % 100 != 11:
                return forms[0]
            return forms[1] if number % 10 in (2, 3, 4) and number % 100 not in (12, 13, 14) else forms[2]
        return forms[0] if number == 1 or len(forms) == 1 else forms[1]
