use super::*;

fn file(header: &str, payload: &[u8]) -> Vec<u8> {
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), payload].concat()
}

fn array_of(descr: &str, shape: &str, payload: &[u8]) -> Result<Array, ArrayError> {
    from_npy_bytes(&file(
        &format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"),
        payload,
    ))
}

#[test]
fn every_type_round_trips() {
    let arrays = [
        Array::from_values(&[2, 2], &[1.5f32, -0.0, f32::INFINITY, 3e-41]).unwrap(),
        Array::from_values(&[3], &[-128i8, 0, 127]).unwrap(),
        Array::from_values(&[1, 1, 2], &[0u8, 255]).unwrap(),
        Array::from_values(&[2], &[i16::MIN, i16::MAX]).unwrap(),
        Array::from_values(&[], &[i32::MIN]).unwrap(),
        Array::from_values(&[0, 4], &[0i64; 0]).unwrap(),
        Array::new(DType::Bool, vec![2], vec![0, 1]).unwrap(),
        Array::new(DType::F16, vec![1], vec![0, 60]).unwrap(),
        Array::from_values(&[1; 30_000], &[7u8]).unwrap(),
    ];
    for array in &arrays {
        let bytes = to_npy_bytes(array);
        assert_eq!(from_npy_bytes(&bytes).as_ref(), Ok(array));
        assert_eq!((bytes.len() - array.bytes().len()) % 64, if array.shape().len() > 6 { 2 } else { 0 });
    }
    let named: Vec<(String, Array)> =
        arrays.iter().enumerate().map(|(i, a)| (format!("a{i}/ü"), a.clone())).collect();
    assert_eq!(from_npz_bytes(&to_npz_bytes(&named).unwrap()).unwrap(), named);
}

#[test]
fn byte_orders_and_doubles_are_converted() {
    let big = array_of(">i2", "(2,)", &[1, 2, 0xff, 0xfe]).unwrap();
    assert_eq!(big.to_vec::<i16>().unwrap(), [0x0102, -2]);
    let double = array_of("<f8", "(1,)", &0.1f64.to_le_bytes()).unwrap();
    assert_eq!(double.to_vec::<f32>().unwrap(), [0.1f32]);
    let double = array_of(">f8", "()", &(-2.5f64).to_be_bytes()).unwrap();
    assert_eq!(double.to_vec::<f32>().unwrap(), [-2.5]);
    assert_eq!(array_of("|b1", "(3,)", &[0, 1, 7]).unwrap().bytes(), [0, 1, 1]);
}

#[test]
fn fortran_order_becomes_row_major() {
    let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }";
    let array = from_npy_bytes(&file(header, &[1, 4, 2, 5, 3, 6])).unwrap();
    assert_eq!((array.shape(), array.bytes()), (&[2, 3][..], &[1, 2, 3, 4, 5, 6][..]));
}

#[test]
fn headers_may_be_written_in_other_ways() {
    for header in [
        "{\"shape\":(2,),\"descr\":\"|u1\",\"fortran_order\":False}",
        "  { 'fortran_order' : False , 'descr' : '|u1' , 'shape' : ( 2 , ) }  \n",
    ] {
        assert_eq!(from_npy_bytes(&file(header, &[1, 2])).unwrap().bytes(), [1, 2], "{header}");
    }
}

#[test]
fn hostile_headers_are_refused() {
    let max = usize::MAX;
    for shape in
        [format!("({max}, {max})"), format!("({max},)"), format!("(0, {max}, {max})"), "(99,)".to_owned()]
    {
        assert!(
            matches!(array_of("<f4", &shape, &[0; 8]), Err(ArrayError::Length { found: 8, .. })),
            "{shape}"
        );
    }
    for shape in ["(-1,)", "(1", "(1 2)", "(18446744073709551616,)", "[2]", "2", "(0x2,)", ""] {
        assert!(matches!(array_of("<f4", shape, &[0; 8]), Err(ArrayError::Header { .. })), "{shape}");
    }
    for descr in ["<c8", "|O", "<U4", "<u2", "=f4", "|f4", "f4", "<", "", "é4", "<f4>"] {
        assert_eq!(array_of(descr, "(2,)", &[0; 8]), Err(ArrayError::ElementType(descr.to_owned())));
    }
    for header in
        ["", "{", "{}", "{'descr': '<f4'}", "{'descr': '<f4', 'descr': '<f4'}", "{'x': 1}", "{'descr': '<f4"]
    {
        assert!(matches!(from_npy_bytes(&file(header, &[])), Err(ArrayError::Header { .. })), "{header}");
    }
    assert_eq!(from_npy_bytes(b"\x93NUMPY\x04\x00\x00\x00"), Err(ArrayError::Version { major: 4, minor: 0 }));
    assert_eq!(from_npy_bytes(b"PK"), Err(ArrayError::NotNpy));
}

#[test]
fn truncated_and_corrupted_arrays_never_panic() {
    let bytes = to_npy_bytes(&Array::from_values(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap());
    for cut in 0..bytes.len() {
        assert!(from_npy_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..bytes.len() {
        for value in 0..=u8::MAX {
            let mut broken = bytes.clone();
            broken[at] = value;
            let _ = from_npy_bytes(&broken);
        }
    }
}

#[test]
fn truncated_and_corrupted_archives_never_panic() {
    let array = Array::from_values(&[4], &[1i32, 2, 3, 4]).unwrap();
    let bytes = to_npz_bytes(&[("x".to_owned(), array.clone()), ("y".to_owned(), array)]).unwrap();
    for cut in 0..bytes.len() {
        assert!(from_npz_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 8, 0x50, 0x7f, 0x80, 0xff] {
            let mut broken = bytes.clone();
            broken[at] = value;
            let _ = from_npz_bytes(&broken);
        }
    }
}

#[test]
fn hostile_archives_are_refused() {
    let array = Array::from_values(&[4], &[1u8, 2, 3, 4]).unwrap();
    let bytes = to_npz_bytes(&[("x".to_owned(), array)]).unwrap();
    let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let refused = |at: usize, value: &[u8]| {
        let mut broken = bytes.clone();
        broken[at..at + value.len()].copy_from_slice(value);
        from_npz_bytes(&broken).unwrap_err()
    };
    assert_eq!(refused(directory + 8, &[1]), ArrayError::Archive("an entry is encrypted"));
    assert_eq!(
        refused(directory + 10, &[14]),
        ArrayError::Archive("an entry is neither stored nor deflated")
    );
    assert!(matches!(refused(directory + 10, &[8]), ArrayError::Archive(_)));
    assert_eq!(
        refused(directory + 16, &[0; 4]),
        ArrayError::Archive("an entry's length or checksum is wrong")
    );
    assert_eq!(refused(directory + 20, &[255, 255, 0, 0]), ArrayError::Archive("entries overlap"));
    assert_eq!(refused(directory + 20, &[255; 4]), ArrayError::ArchiveTooLarge);
    assert_eq!(refused(directory + 42, &[9, 0, 0, 0]), ArrayError::Archive("an entry has no local header"));
    let mut claims = bytes.clone();
    claims[directory + 10] = 8;
    claims[directory + 24..directory + 28].copy_from_slice(&[0, 0, 0, 64]);
    let refusal = ArrayError::Archive("an entry declares more than deflate can pack");
    assert_eq!(from_npz_bytes(&claims), Err(refusal));

    let mut renamed = bytes.clone();
    renamed[directory + 46..directory + 51].copy_from_slice(b"x.txt");
    assert_eq!(from_npz_bytes(&renamed), Err(ArrayError::NotAnArray("x.txt".to_owned())));
}
