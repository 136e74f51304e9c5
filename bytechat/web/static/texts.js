/** The page's words, in the language of the browser. */
const TEXTS = {
  en: {
    welcome: "Sign in, or register with any name and a password of at least 6 characters.",
    username: "Name",
    password: "Password",
    signIn: "Sign in",
    register: "Register",
    signOut: "Sign out",
    connecting: "Connecting…",
    connected: "Connected",
    lost: "Connection lost, trying again…",
    expired: "You were signed out. Sign in again.",
    unreachable: "The server cannot be reached.",
    talking: "Talking here: ",
    earlier: "Earlier messages",
    newer: "New messages ↓",
    empty: "Nobody has said anything yet.",
    message: "Message",
    send: "Send",
    sending: "sending…",
    tooLong: "not sent: too long",
  },
  ru: {
    welcome: "Войдите или зарегистрируйтесь: любое имя и пароль не короче 6 символов.",
    username: "Имя",
    password: "Пароль",
    signIn: "Войти",
    register: "Регистрация",
    signOut: "Выйти",
    connecting: "Соединение…",
    connected: "На связи",
    lost: "Связь потеряна, пробуем снова…",
    expired: "Сеанс завершён. Войдите снова.",
    unreachable: "Сервер недоступен.",
    talking: "Здесь говорят: ",
    earlier: "Более ранние",
    newer: "Новые сообщения ↓",
    empty: "Пока никто ничего не сказал.",
    message: "Сообщение",
    send: "Отправить",
    sending: "отправляется…",
    tooLong: "не отправлено: слишком длинное",
  },
};

export const language = navigator.language.startsWith("ru") ? "ru" : "en";

export const texts = TEXTS[language];
