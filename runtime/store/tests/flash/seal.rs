//! Signatures: who may put what under which key, and never an older one again.

use crate::device::Flash;
use ingraft_adapter::{Adapter, AdapterBuilder, AdapterError, AdapterFacts};
use ingraft_kernel::{SiteDesc, Sites};
use ingraft_store::{
    FlashStore, Key, Nor, Place, Policy, PublicKey, Refusal, Region, Seal, SealError, SecretKey, Statement,
    StoreError,
};
use ingraft_tensor::bytes::{ALIGN, aligned_mut};

/// A base without sites.
struct Bare([u8; 32]);

impl Sites for Bare {
    fn base_hash(&self) -> [u8; 32] {
        self.0
    }

    fn site_count(&self) -> usize {
        0
    }

    fn site(&self, _: usize) -> Option<SiteDesc<'_>> {
        None
    }

    fn head_features(&self, _: u32, _: u32) -> Option<usize> {
        None
    }

    fn head_classes(&self) -> usize {
        0
    }
}

const BASE: [u8; 32] = [7; 32];

/// An adapter file, aligned.
struct File(Vec<u8>, usize);

impl File {
    fn new(provenance: &str, method: &str, base: [u8; 32]) -> Self {
        let facts =
            AdapterFacts { provenance: provenance.into(), method: method.into(), ..AdapterFacts::default() };
        let file = AdapterBuilder::new(&Bare(base)).finish(&facts);
        let mut memory = vec![0; file.len() + ALIGN];
        aligned_mut(&mut memory)[..file.len()].copy_from_slice(&file);
        Self(memory, file.len())
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut aligned_mut(&mut self.0)[..self.1]
    }
}

fn key(name: &str) -> Key {
    Key::new(name).expect("a name")
}

fn vendor() -> SecretKey {
    SecretKey::from_seed(&[42; 32])
}

fn seal(file: &mut File, name: &str, version: u64, expires: Option<u64>) -> Seal {
    let adapter = Adapter::open(file.bytes()).expect("an adapter");
    vendor().sign(&Statement::of(&adapter, key(name), version, expires).expect("a short name"))
}

#[test]
fn a_seal_vouches_for_one_file_under_one_key() {
    let mut file = File::new("a", "lora", BASE);
    let (good, trusted) = (seal(&mut file, "site", 3, Some(1000)), [vendor().public()]);
    let policy = Policy::signed(&trusted, Some(999)).for_base(BASE);
    let mut admit = |policy: &Policy<'_>, name: &str, seal: Option<&Seal>, floor: u64| {
        policy.admit(&key(name), file.bytes(), seal, floor)
    };
    assert_eq!(admit(&policy, "site", Some(&good), 3), Ok(3));
    let mut refused = |policy: &Policy<'_>, name: &str, seal: Option<&Seal>, floor: u64| match admit(
        policy, name, seal, floor,
    ) {
        Err(Refusal::Seal(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&policy, "site", None, 0), SealError::Missing);
    assert_eq!(refused(&policy, "other", Some(&good), 0), SealError::OtherKey { key: key("site") });
    assert_eq!(refused(&policy, "site", Some(&good), 4), SealError::Rollback { version: 3, floor: 4 });
    for now in [Some(1000), None] {
        let late = Policy::signed(&trusted, now);
        assert_eq!(refused(&late, "site", Some(&good), 0), SealError::Expired { at: 1000 });
    }
    let stranger = [SecretKey::from_seed(&[1; 32]).public()];
    let signer = vendor().public().id();
    let strange = Policy::signed(&stranger, Some(0));
    assert_eq!(refused(&strange, "site", Some(&good), 0), SealError::UnknownSigner { signer });
    let others = [
        (File::new("b", "lora", BASE), SealError::OtherAdapter),
        (File::new("a", "lora", [8; 32]), SealError::OtherAdapter),
        (File::new("a", "dora", BASE), SealError::OtherAdapter),
    ];
    for (mut other, error) in others {
        let strange = seal(&mut other, "site", 3, None);
        assert_eq!(refused(&policy, "site", Some(&strange), 0), error);
    }
    let elsewhere = policy.for_base([8; 32]).admit(&key("site"), file.bytes(), Some(&good), 0);
    assert_eq!(elsewhere, Err(Refusal::WrongBase));
}

#[test]
fn no_bit_of_a_seal_is_free() {
    let mut file = File::new("a", "lora", BASE);
    let (good, trusted) = (seal(&mut file, "site", 3, None), [vendor().public()]);
    let statement = good.verify(&trusted).expect("ours");
    assert_eq!((statement.version, statement.expires, statement.base), (3, None, BASE));
    for bit in 0..8 * Seal::BYTES {
        let mut bytes = *good.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Seal::from_bytes(bytes).verify(&trusted).is_err(), "bit {bit}");
    }
}

#[test]
fn a_statement_must_fit_what_the_file_says() {
    let mut file = File::new("a", "lora", BASE);
    let adapter = Adapter::open(file.bytes()).expect("an adapter");
    let fits = Statement::of(&adapter, key("site"), 1, None).expect("a short name");
    let cases = [
        (Statement { adapter: [0; 32], ..fits }, SealError::OtherAdapter),
        (Statement { base: [0; 32], ..fits }, SealError::OtherBase),
        (Statement { method: [0; 32], ..fits }, SealError::OtherMethod),
    ];
    for (statement, error) in cases {
        assert_eq!(statement.check(&adapter, &key("site"), None, 0), Err(error));
    }
    let mut long = File::new("a", "a method with a name beyond all measure", BASE);
    let adapter = Adapter::open(long.bytes()).expect("an adapter");
    assert_eq!(Statement::of(&adapter, key("site"), 1, None), Err(SealError::MethodName));
}

/// RFC 8032, section 7.1, test 1.
#[test]
fn keys_are_those_of_the_standard() {
    let seed = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44,
        0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    ];
    let public = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e,
        0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
    ];
    assert_eq!(SecretKey::from_seed(&seed).public().to_bytes(), public);
    assert_eq!(PublicKey::new(&public).expect("a key").to_bytes(), public);
    // The neutral element, and a point of order two.
    let mut weak = [0; 32];
    weak[0] = 1;
    assert_eq!(PublicKey::new(&weak), Err(SealError::PublicKey));
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    assert_eq!(PublicKey::new(&minus_one), Err(SealError::PublicKey));
    assert_eq!(format!("{:?}", SecretKey::from_seed(&seed)), "SecretKey", "no key material is printed");
}

#[test]
fn levels_ask_for_more_and_more() {
    let (mut file, trusted) = (File::new("a", "lora", BASE), [vendor().public()]);
    let signed = Policy::signed(&trusted, None);
    let site = key("site");
    file.bytes()[60] ^= 1;
    assert_eq!(Policy::ANY.admit(&site, file.bytes(), None, 9), Ok(0));
    let damaged = Err(Refusal::Adapter(AdapterError::Hash));
    assert_eq!(Policy::HASHED.admit(&site, file.bytes(), None, 0), damaged);
    assert_eq!(signed.admit(&site, file.bytes(), None, 0), damaged);
    file.bytes()[60] ^= 1;
    assert_eq!(Policy::HASHED.admit(&site, file.bytes(), None, 9), Ok(0));
    assert_eq!(Policy::HASHED.for_base([0; 32]).admit(&site, file.bytes(), None, 0), Err(Refusal::WrongBase));
    assert_eq!(signed.admit(&site, file.bytes(), None, 0), Err(Refusal::Seal(SealError::Missing)));
}

#[test]
fn a_store_never_goes_back_to_an_older_version() {
    let region = Region { offset: 0, bank_bytes: 2048, file_bytes: 8192 };
    let trusted = [vendor().public()];
    let policy = Policy::signed(&trusted, None);
    let site = key("site");
    let mut flash = Nor::format(Flash::<4, 512>::new(24, 1), region).expect("it fits").into_inner();
    let mut files = [5, 6, 7].map(|version| {
        let mut file = File::new(&format!("version {version}"), "lora", BASE);
        let seal = seal(&mut file, "site", version, None);
        (file, seal)
    });
    for round in 0..3 {
        let mut places = [Place::EMPTY; 4];
        let mut store = FlashStore::open(Nor::open(flash, region).expect("ours"), &mut places).expect("ours");
        let mut stage = |store: &mut FlashStore<'_, _>, version: usize| {
            let (file, seal) = &mut files[version - 5];
            store.stage(site, file.bytes(), Some(seal), &policy)
        };
        let rollback = |result: Result<(), _>| {
            let expected = SealError::Rollback { version: 5, floor: 6 };
            assert!(matches!(result, Err(StoreError::Refused(Refusal::Seal(error))) if error == expected));
        };
        match round {
            0 => {
                for version in [5, 6] {
                    stage(&mut store, version).expect("newer");
                    store.begin_trial(&site, 0).expect("staged");
                    store.confirm(&site).expect("on trial");
                }
                // What was only tried is no floor.
                stage(&mut store, 7).expect("newer");
                store.begin_trial(&site, 0).expect("staged");
                store.revert(&site).expect("on trial");
            }
            1 => {
                rollback(stage(&mut store, 5));
                store.remove(&site).expect("known");
            }
            _ => {
                rollback(stage(&mut store, 5));
                stage(&mut store, 6).expect("the same");
                store.forget(&site).expect("known");
                stage(&mut store, 5).expect("forgotten");
                store.begin_trial(&site, 0).expect("staged");
                let kept = store.seal(&site).expect("it reads").expect("it was sealed");
                let mut memory = vec![0; 2048];
                let file = store.load(&site, &mut memory).expect("on trial").bytes;
                assert_eq!(policy.admit(&site, file, Some(&kept), 0), Ok(5), "it can be proved again");
            }
        }
        flash = store.close().into_inner();
    }
}
