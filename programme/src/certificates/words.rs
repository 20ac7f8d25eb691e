//! What stands on the paper of a certificate beside what it says, in the languages it can be had in.

/// The words of one language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// Its BCP 47 tag.
    pub language: &'static str,
    /// What the paper is.
    pub title: &'static str,
    /// A person's name.
    pub name: &'static str,
    /// The day or year of birth.
    pub born: &'static str,
    /// As the programme names it.
    pub sex: &'static str,
    /// What shows who they are.
    pub document: &'static str,
    /// Above the doses.
    pub doses: &'static str,
    /// Which dose, of how many.
    pub dose: &'static str,
    /// When it was given.
    pub date: &'static str,
    /// What was given.
    pub vaccine: &'static str,
    /// Who makes it.
    pub manufacturer: &'static str,
    /// Of which batch.
    pub batch: &'static str,
    /// Where.
    pub facility: &'static str,
    /// Who vouches for it.
    pub issuer: &'static str,
    /// The number of the certificate.
    pub number: &'static str,
    /// When it was signed.
    pub issued: &'static str,
    /// Until when it can be shown.
    pub valid_until: &'static str,
    /// How to check it.
    pub check: &'static str,
}

/// Of this language, by its tag or the first part of it.
#[must_use]
pub fn words(language: &str) -> Option<&'static Words> {
    let primary = language.split('-').next().unwrap_or(language);
    WORDS.iter().find(|words| words.language.eq_ignore_ascii_case(primary))
}

/// English: what stands small beneath another language, for who checks it abroad.
#[must_use]
pub fn english() -> &'static Words {
    &ENGLISH
}

/// Every language there is.
pub fn languages() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|words| words.language)
}

const ENGLISH: Words = Words {
    language: "en",
    title: "Vaccination certificate",
    name: "Name",
    born: "Date of birth",
    sex: "Sex",
    document: "Identity document",
    doses: "Doses given",
    dose: "Dose",
    date: "Date",
    vaccine: "Vaccine",
    manufacturer: "Manufacturer",
    batch: "Batch",
    facility: "Place",
    issuer: "Issued by",
    number: "Certificate number",
    issued: "Issued on",
    valid_until: "Valid until",
    check: "Scan the code to check the signature. No connection is needed for it.",
};

const WORDS: [Words; 7] = [
    ENGLISH,
    Words {
        language: "fr",
        title: "Certificat de vaccination",
        name: "Nom",
        born: "Date de naissance",
        sex: "Sexe",
        document: "Pièce d’identité",
        doses: "Doses administrées",
        dose: "Dose",
        date: "Date",
        vaccine: "Vaccin",
        manufacturer: "Fabricant",
        batch: "Lot",
        facility: "Lieu",
        issuer: "Délivré par",
        number: "Numéro du certificat",
        issued: "Délivré le",
        valid_until: "Valable jusqu’au",
        check: "Scannez le code pour vérifier la signature. Aucune connexion n’est nécessaire.",
    },
    Words {
        language: "de",
        title: "Impfzertifikat",
        name: "Name",
        born: "Geburtsdatum",
        sex: "Geschlecht",
        document: "Ausweis",
        doses: "Verabreichte Dosen",
        dose: "Dosis",
        date: "Datum",
        vaccine: "Impfstoff",
        manufacturer: "Hersteller",
        batch: "Charge",
        facility: "Ort",
        issuer: "Ausgestellt von",
        number: "Nummer des Zertifikats",
        issued: "Ausgestellt am",
        valid_until: "Gültig bis",
        check: "Der Code wird gescannt, um die Signatur zu prüfen. Eine Verbindung ist nicht nötig.",
    },
    Words {
        language: "hi",
        title: "टीकाकरण प्रमाणपत्र",
        name: "नाम",
        born: "जन्म तिथि",
        sex: "लिंग",
        document: "पहचान पत्र",
        doses: "दी गई खुराकें",
        dose: "खुराक",
        date: "तिथि",
        vaccine: "टीका",
        manufacturer: "निर्माता",
        batch: "बैच",
        facility: "स्थान",
        issuer: "जारीकर्ता",
        number: "प्रमाणपत्र संख्या",
        issued: "जारी करने की तिथि",
        valid_until: "इस तिथि तक मान्य",
        check: "हस्ताक्षर की जाँच के लिए कोड स्कैन करें। इसके लिए इंटरनेट ज़रूरी नहीं है।",
    },
    Words {
        language: "mr",
        title: "लसीकरण प्रमाणपत्र",
        name: "नाव",
        born: "जन्मतारीख",
        sex: "लिंग",
        document: "ओळखपत्र",
        doses: "दिलेले डोस",
        dose: "डोस",
        date: "तारीख",
        vaccine: "लस",
        manufacturer: "उत्पादक",
        batch: "बॅच",
        facility: "ठिकाण",
        issuer: "जारीकर्ता",
        number: "प्रमाणपत्र क्रमांक",
        issued: "जारी केल्याची तारीख",
        valid_until: "या तारखेपर्यंत वैध",
        check: "स्वाक्षरी तपासण्यासाठी कोड स्कॅन करा. त्यासाठी इंटरनेटची गरज नाही.",
    },
    Words {
        language: "es",
        title: "Certificado de vacunación",
        name: "Nombre",
        born: "Fecha de nacimiento",
        sex: "Sexo",
        document: "Documento de identidad",
        doses: "Dosis administradas",
        dose: "Dosis",
        date: "Fecha",
        vaccine: "Vacuna",
        manufacturer: "Fabricante",
        batch: "Lote",
        facility: "Lugar",
        issuer: "Expedido por",
        number: "Número del certificado",
        issued: "Expedido el",
        valid_until: "Válido hasta",
        check: "Escanee el código para comprobar la firma. No hace falta conexión.",
    },
    Words {
        language: "pt",
        title: "Certificado de vacinação",
        name: "Nome",
        born: "Data de nascimento",
        sex: "Sexo",
        document: "Documento de identidade",
        doses: "Doses administradas",
        dose: "Dose",
        date: "Data",
        vaccine: "Vacina",
        manufacturer: "Fabricante",
        batch: "Lote",
        facility: "Local",
        issuer: "Emitido por",
        number: "Número do certificado",
        issued: "Emitido em",
        valid_until: "Válido até",
        check: "Leia o código para verificar a assinatura. Não é preciso ligação.",
    },
];
