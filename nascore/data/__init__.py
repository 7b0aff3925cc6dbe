"""Image data sets, from files to batches on a device.

| job | modules |
| --- | --- |
| read a source | `sources`: `image_folders`, `arrays`, `parquet`, `omniglot` |
| open its files | `file_access`, `archives`, `archive_members`, `parallel` |
| find the class of each file | `tree`, `endings`, `listing`; by folders `layouts`, `recognition`, \
`split_names`; by tables `table_layouts`, `table_rows`, `table_labels`, `tables`, `columns`, \
`file_index`; for splits with different classes `class_layouts` |
| read arrays | `array_files`, `array_labels`, `array_pixels` |
| decode files | `decoding`, `pixels`, `colours`, `cache`, `mapped` |
| split | `splits`, `grouping`, `class_splits` |
| check | `inspection`, `checks`, `content`, `findings`, `sample_page`, `pictures` |
| write and read the prepared data | `prepared`, `raw_dataset` |
| make batches | `batches`, `images`, `augmentation`, `balance`, `waiting`; few-shot: `episodes` |
| compare with other data | `drift` |
"""
