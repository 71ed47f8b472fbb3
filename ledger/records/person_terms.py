"""The words of the page that shows one person everything that is held: English, Russian and Kazakh, in this order."""

from __future__ import annotations

from ledger.records.terms import Table

PERSON: Table = {
    "title": ("What is held of you", "Что о вас хранится", "Сіз туралы не сақталған"),
    "lead": (
        "Every choice on record of this browser, what holds now, and the proof that the log has it so. This file works "
        "without a connection.",
        "Все записанные выборы этого браузера, что действует сейчас и доказательство того, что в журнале записано "
        "именно так. Этот файл работает без соединения.",
        "Осы браузердің барлық жазылған таңдауы, қазір не күшінде екені және журналда дәл солай жазылғанының дәлелі. "
        "Бұл файл байланыссыз жұмыс істейді.",
    ),
    "now": ("What holds now", "Что действует сейчас", "Қазір не күшінде"),
    "why": ("Why", "Почему", "Неліктен"),
    "checked": ("Proof", "Доказательство", "Дәлел"),
    "requests": ("Your requests", "Ваши обращения", "Сіздің өтініштеріңіз"),
    "restrictions": ("Restrictions of use", "Ограничения использования", "Пайдалану шектеулері"),
    "kind": ("What was asked for", "О чём просили", "Не сұралды"),
    "state": ("State", "Состояние", "Күйі"),
    "received": ("Received", "Получено", "Алынған уақыты"),
    "due": ("Due", "Срок ответа", "Жауап мерзімі"),
    "nothing": ("Nothing is on record.", "Записей нет.", "Жазба жоқ."),
    "all_verified": (
        "The log holds each of these events, at its place.",
        "Каждое из этих событий записано в журнале на своём месте.",
        "Осы оқиғалардың әрқайсысы журналда өз орнында жазылған.",
    ),
    "some_unproven": (
        "No checkpoint covers some of these events yet. Ask again in a moment.",
        "Для некоторых событий ещё нет контрольной точки. Запросите файл чуть позже.",
        "Кейбір оқиғаларды қамтитын бақылау нүктесі әлі жоқ. Сәл кейінірек сұраңыз.",
    ),
    "data": ("The same for programs", "То же для программ", "Бағдарламаларға арналған нұсқа"),
    "data_text": (
        "Everything above is made from this, and each receipt in it can be verified by itself:",
        "Всё выше составлено по этим данным, и каждую квитанцию в них можно проверить отдельно:",
        "Жоғарыдағының бәрі осыдан жасалған, ондағы әр түбіртекті бөлек тексеруге болады:",
    ),
}

KINDS: Table = {
    "access": ("access to the data", "доступ к данным", "деректерге қол жеткізу"),
    "erasure": ("erasure", "удаление", "өшіру"),
    "portability": ("the data in portable form", "данные в переносимом виде", "деректерді тасымалданатын түрде алу"),
    "objection": ("objection", "возражение", "қарсылық"),
    "correction": ("correction", "исправление", "түзету"),
}

STATES: Table = {
    "received": ("received", "получено", "қабылданды"),
    "proven": ("proven to be yours", "подтверждено, что это вы", "сіздікі екені расталды"),
    "forwarded": ("forwarded to the operator", "передано оператору", "операторға жіберілді"),
    "instructed": ("decided by the operator", "решено оператором", "оператор шешті"),
    "answered": ("answered", "отвечено", "жауап берілді"),
    "refused": ("refused", "отказано", "қабылданбады"),
    "restricted": ("in force", "действует", "күшінде"),
    "lifted": ("lifted", "снято", "алынып тасталды"),
    "superseded": ("ended by an erasure", "прекращено удалением", "өшірумен тоқтатылды"),
}
